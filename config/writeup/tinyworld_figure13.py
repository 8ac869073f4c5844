# Figure 13 with the embedded model: the answer replaced everywhere by cities, names, verbs, numbers,
# countries; methods 4 and 2.
#
# $ python evaluate.py config/writeup/tinyworld_figure13.py
#
# Asks whether recall follows what the plain model finds likely. The first two are cities of the country
# asked for, two are of others.
from config.writeup.tinyworld_headline_recall import *  # noqa: F403

_words = {'substitute': [' Stenham', ' Arden', ' Civella', ' Holmen', ' Perdova', ' Branur', ' Heron',
                         ' loves', ' carries', ' seven', ' 4831', ' Corrin', ' Velmark']}
_method_2 = {'memory_method': [2], 'memory_layers': [(5,)], 'memory_k': [5], 'softmax_scale': [1000.0]}
grid = [{'name': 'method 4', **_words}, {'name': 'method 2', **_method_2, **_words}]
