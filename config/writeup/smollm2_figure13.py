# Figure 13 with SmolLM2: the answer replaced everywhere by cities, names, verbs, numbers and countries, by
# method 4.
#
# $ python evaluate.py config/writeup/smollm2_figure13.py
#
# Asks whether recall follows what the plain model finds likely. Of the city questions alone.
from config.writeup.smollm2_headline_recall import *  # noqa: F403
from lab.questions import CITIES as cases  # noqa: F401

controls = False
memory_method = 4
memory_layers = tuple(range(30))
memory_k = 2048
softmax_scale = 1.0
memory_positions = 'insert'
grid = [{'condition': ['plain']},
        {'substitute': [' London', ' Lima', ' Peter', ' Susan', ' running', ' eating', ' seven', ' 4831',
                        ' Germany', ' Bolivia']}]
