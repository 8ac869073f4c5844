# The write-up's Figure 6: one box for each set of layers that read, ordinary tokens only, on the real GPT-2.
#
# $ python evaluate.py config/writeup/figure06.py
#
# Published: layers 6, 7 and 8 are best, and the first six do harm. Method 1, MF 5, TS 1, k 5, BF 1.
from config.writeup.headline_sentiment import *  # noqa: F403

memory_method = 1
bookkeeping_fraction = 1.0
softmax_scale = 1.0
grid = [{'memory_layers': [tuple(range(6)), tuple(range(6, 12)), tuple(range(12)),
                           (0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11),
                           *((layer,) for layer in range(12))]}]
