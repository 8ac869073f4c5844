# Figure 5 with the embedded model: the bookkeeping token alone, ordinary tokens alone, and both, in the
# upper layers.
#
# $ python evaluate.py config/writeup/tinyworld_figure05.py
#
# Asks which of the two carries the sentiment, and whether the text repeats itself.
from config.writeup.tinyworld_figure03 import *  # noqa: F403

memory_layers = (3, 4, 5)
figure = 'boxes'
grid = [{'name': 'bookkeeping only', 'memory_fraction': [0.0], 'bookkeeping_fraction': [0.0, 0.5, 0.8, 0.9]},
        {'name': 'ordinary only', 'memory_fraction': [1.0, 5.0], 'bookkeeping_fraction': [1.0]},
        {'name': 'both', 'memory_fraction': [5.0], 'bookkeeping_fraction': [0.0, 0.5, 0.8, 0.9]}]
