# Figure 9 with SmolLM2: layers 23 to 27 by method 1, with MF, TS and k varied under each way to add memories.
#
# $ python evaluate.py config/writeup/smollm2_figure09.py
#
# Asks at what strengths method 1 recalls. MF 0 is the bookkeeping token alone, BF 1 ordinary tokens alone,
# both together nothing.
from config.writeup.smollm2_figure08 import *  # noqa: F403

figure = 'lines'
memory_layers = tuple(range(23, 28))
_ways = {'memory_fraction': [0.0, 1.0], 'bookkeeping_fraction': [0.1, 1.0]}
grid = [{'memory_fraction': [0.0, 0.5, 1.0, 2.0, 5.0], 'bookkeeping_fraction': [0.1, 1.0]},
        {'softmax_scale': [0.01, 1.0, 10.0, 1000.0], **_ways}, {'memory_k': [1, 3, 5, 10], **_ways}]
