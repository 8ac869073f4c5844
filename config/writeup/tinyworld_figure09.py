# Figure 9 with the embedded model: layers 4 and 5 by method 1, with MF, TS and k varied under each way to
# add memories.
#
# $ python evaluate.py config/writeup/tinyworld_figure09.py
#
# Asks whether any strength recalls. MF 0 is the bookkeeping token alone, BF 1 ordinary tokens alone, both
# together nothing.
from config.writeup.tinyworld_headline_recall import *  # noqa: F403

figure = 'lines'
memory_layers = (4, 5)
memory_k = 3
memory_method = 1
memory_fraction = 1.0
bookkeeping_fraction = 0.1
softmax_scale = 1.0
_ways = {'memory_fraction': [0.0, 1.0], 'bookkeeping_fraction': [0.1, 1.0]}
grid = [{'memory_fraction': [0.0, 0.5, 1.0, 2.0, 5.0], 'bookkeeping_fraction': [0.1, 1.0]},
        {'softmax_scale': [0.01, 1.0, 10.0, 1000.0], **_ways}, {'memory_k': [1, 3, 5, 10], **_ways}]
