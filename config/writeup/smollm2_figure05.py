# Figure 5 with SmolLM2: the bookkeeping token alone, ordinary tokens alone, and both, in the upper half.
#
# $ python evaluate.py config/writeup/smollm2_figure05.py
#
# Asks which of the two carries the sentiment, and whether the text repeats itself.
from config.writeup.smollm2_figure03 import *  # noqa: F403

figure = 'boxes'
grid = [{'name': 'bookkeeping only', 'memory_fraction': [0.0],
         'bookkeeping_fraction': [0.0, 0.5, 0.8, 0.9, 0.95]},
        {'name': 'ordinary only', 'memory_fraction': [1.0, 5.0], 'bookkeeping_fraction': [1.0]},
        {'name': 'both', 'memory_fraction': [5.0], 'bookkeeping_fraction': [0.0, 0.5, 0.8, 0.9]}]
