# The write-up's Figure 8: right answers for each set of layers, method 1, BF 0.1, MF 1, TS 1, k 3, on the
# real GPT-2.
#
# $ python evaluate.py config/writeup/figure08.py
#
# Published: layers 9 and 10 are best, and 9 alone about equals the text in the prompt.
from config.writeup.headline_recall import *  # noqa: F403

memory_k = 3
memory_method = 1
memory_fraction = 1.0
bookkeeping_fraction = 0.1
softmax_scale = 1.0
grid = [{'memory_layers': [*((layer,) for layer in range(12)),
                           (9, 10), (6, 7, 8), tuple(range(6, 12)), tuple(range(12))]}]
