# The write-up's Figure 13: the answer replaced everywhere by cities, names, verbs, numbers and countries, on
# the real GPT-2.
#
# $ python evaluate.py config/writeup/figure13.py
#
# Published: recall follows what the plain model finds likely: Canadian cities high, verbs and countries
# near 0.
from config.writeup.headline_recall import *  # noqa: F403

_words = [' Toronto', ' Montreal', ' Calgary', ' Ottawa', ' Paris', ' Chicago', ' Peter', ' Susan',
          ' running', ' eating', ' seven', ' 4831', ' Germany', ' Japan']
grid = [{'name': 'as it is'}, {'substitute': _words}]
