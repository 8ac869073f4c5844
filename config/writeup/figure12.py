# The write-up's Figure 12: the answer replaced at chosen places of the remembered text, on the real GPT-2.
#
# $ python evaluate.py config/writeup/figure12.py
#
# Published: the occurrence nearest the start decides, not the one in the sentence that is asked about.
from config.writeup.headline_recall import *  # noqa: F403

grid = [{'name': 'as it is'}, {'name': 'Toronto', 'substitute': [' Toronto'],
                               'substitute_at': [(0,), (1,), (2,), (3,), (1, 2, 3), (0, 1, 2), ()]}]
