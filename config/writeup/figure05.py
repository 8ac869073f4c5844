# The write-up's Figure 5: the bookkeeping token alone, ordinary tokens alone, and both, in layers 6-11, on
# the real GPT-2.
#
# $ python evaluate.py config/writeup/figure05.py
#
# Published: the bookkeeping token raises positivity, and below BF 0.8 makes the text repeat itself.
from config.writeup.figure03 import *  # noqa: F403

memory_layers = tuple(range(6, 12))
figure = 'boxes'
grid = [{'name': 'bookkeeping only', 'memory_fraction': [0.0],
         'bookkeeping_fraction': [0.0, 0.5, 0.8, 0.9, 0.95]},
        {'name': 'ordinary only', 'memory_fraction': [1.0, 5.0], 'bookkeeping_fraction': [1.0]},
        {'name': 'both', 'memory_fraction': [5.0], 'bookkeeping_fraction': [0.0, 0.5, 0.8, 0.9]}]
