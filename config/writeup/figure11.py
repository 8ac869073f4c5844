# The write-up's Figure 11: layer 9 by method 2, with MF, BF, TS and k varied, on the real GPT-2.
#
# $ python evaluate.py config/writeup/figure11.py
#
# Published: BF 0.9 is enough, and k matters little.
from config.writeup.headline_recall import *  # noqa: F403

figure = 'lines'
grid = [{'memory_fraction': [0.0, 1.0, 5.0, 10.0]},
        {'bookkeeping_fraction': [0.0, 0.5, 0.8, 0.9, 0.95, 1.0]},
        {'softmax_scale': [0.01, 1.0, 10.0, 1000.0]},
        {'memory_k': [1, 2, 5, 10]}]
