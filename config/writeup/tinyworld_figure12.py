# Figure 12 with the embedded model: the answer replaced at chosen places of the remembered text, by methods
# 4 and 2.
#
# $ python evaluate.py config/writeup/tinyworld_figure12.py
#
# Asks which occurrence decides: the first, or the second, which stands in the sentence that is asked about.
from config.writeup.tinyworld_headline_recall import *  # noqa: F403

_places = {'substitute': [' Perdova'], 'substitute_at': [(0,), (1,), (2,), (3,), (4,), (0, 2, 3, 4), ()]}
_method_2 = {'memory_method': [2], 'memory_layers': [(5,)], 'memory_k': [5], 'softmax_scale': [1000.0]}
grid = [{'name': 'method 4, as it is'},
        {'name': 'method 4', **_places},
        {'name': 'method 2', **_method_2, **_places}]
