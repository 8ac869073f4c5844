# The write-up's Figure 10: right answers for each set of layers, method 2, BF 0.9, MF 5, TS 1000, k 5, on
# the real GPT-2.
#
# $ python evaluate.py config/writeup/figure10.py
#
# Published: layer 9 alone is enough.
from config.writeup.headline_recall import *  # noqa: F403

memory_fraction = 5.0
grid = [{'memory_layers': [*((layer,) for layer in range(12)),
                           (8, 9), (9, 10), (6, 7, 8), tuple(range(6, 12)), tuple(range(12))]}]
