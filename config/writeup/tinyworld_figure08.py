# Figure 8 with the embedded model: right answers for each set of layers, method 1, BF 0.1, MF 1, TS 1, k 3;
# and by method 4.
#
# $ python evaluate.py config/writeup/tinyworld_figure08.py
#
# Asks which layers recall, by key and by query.
from config.writeup.tinyworld_headline_recall import *  # noqa: F403

memory_fraction = 1.0
bookkeeping_fraction = 0.1
_layers = {'memory_layers': [(0,), (1,), (2,), (3,), (4,), (5,), (4, 5), (3, 4, 5), (0, 1, 2, 3, 4, 5)]}
grid = [{'name': 'method 1', 'memory_method': [1], 'memory_k': [3], 'softmax_scale': [1.0], **_layers},
        {'name': 'method 4', **_layers}]
