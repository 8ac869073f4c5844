# Figure 12 with SmolLM2: the answer replaced at chosen places of each paragraph, by methods 4 and 2.
#
# $ python evaluate.py config/writeup/smollm2_figure12.py
#
# Asks which occurrence decides. Of each paragraph's four, 0 is in its first sentence, and 1 in the sentence
# that is asked about.
from config.writeup.smollm2_table4 import *  # noqa: F403

_whole = {'memory_method': [4], 'memory_layers': [tuple(range(30))], 'memory_k': [2048],
          'softmax_scale': [1.0], 'memory_positions': ['insert']}
_places = {'substitute_at': [(0,), (1,), (2,), (3,), (0, 2, 3), ()]}
grid = [{'condition': ['plain']}, {'name': 'method 4', **_whole, **_places},
        {'name': 'method 2', 'memory_fraction': [5.0], **_places}]
