# Figure 6 with the embedded model: one box for each set of layers that read, ordinary tokens only.
#
# $ python evaluate.py config/writeup/tinyworld_figure06.py
#
# Asks which layers carry the sentiment, and at what damage. Method 1, MF 5, TS 1, k 5, BF 1.
from config.writeup.tinyworld_headline_sentiment import *  # noqa: F403

memory_heads = ()
memory_method = 1
bookkeeping_fraction = 1.0
softmax_scale = 1.0
grid = [{'memory_layers': [(0, 1, 2), (3, 4, 5), (0, 1, 2, 3, 4, 5),
                           (0,), (1,), (2,), (3,), (4,), (5,), (4, 5)]}]
