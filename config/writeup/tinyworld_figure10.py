# Figure 10 with the embedded model: right answers for each set of layers, method 2, BF 0.9, MF 5, TS 1000,
# k 5.
#
# $ python evaluate.py config/writeup/tinyworld_figure10.py
#
# Asks whether one layer alone is enough.
from config.writeup.tinyworld_headline_recall import *  # noqa: F403

memory_k = 5
memory_method = 2
memory_fraction = 5.0
softmax_scale = 1000.0
grid = [{'memory_layers': [(0,), (1,), (2,), (3,), (4,), (5,), (4, 5), (3, 4, 5), (0, 1, 2, 3, 4, 5)]}]
