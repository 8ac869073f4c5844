# Figure 11 with SmolLM2: layer 23 by method 2, with MF, BF, TS and k varied, over all questions; and by
# 'last', the write-up's reading, beside 'each'.
#
# $ python evaluate.py config/writeup/smollm2_figure11.py
#
# Asks whether BF 0.9 is enough, and whether k matters. MF 5 where another setting is varied.
from config.writeup.smollm2_headline_recall import *  # noqa: F403

controls = True
figure = 'lines'
memory_fraction = 5.0
grid = [{'memory_fraction': [0.0, 1.0, 5.0, 10.0]},
        {'bookkeeping_fraction': [0.0, 0.5, 0.9, 1.0]},
        {'softmax_scale': [0.01, 1.0, 10.0, 1000.0]},
        {'memory_k': [1, 2, 5, 10]},
        {'memory_select': ['each', 'last']}]
