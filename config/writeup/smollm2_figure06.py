# Figure 6 with SmolLM2: one box for each set of layers that read, ordinary tokens only.
#
# $ python evaluate.py config/writeup/smollm2_figure06.py
#
# Asks which layers carry the sentiment, and at what damage. Method 1, MF 5, TS 1, k 5, BF 1. The write-up's
# three layers of 12 are seven or eight here; 17-22 is what a search found.
from config.writeup.smollm2_headline_sentiment import *  # noqa: F403

memory_method = 1
bookkeeping_fraction = 1.0
softmax_scale = 1.0
_ends = [(0, 14), (15, 29), (0, 29), (0, 7), (8, 14), (15, 22), (23, 29), (17, 22)]
grid = [{'memory_layers': [tuple(range(first, last + 1)) for first, last in _ends]}]
