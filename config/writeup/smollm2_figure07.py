# Figure 7 with SmolLM2: methods 1, 2 and 3 in layers 17-22, with MF, TS and k varied.
#
# $ python evaluate.py config/writeup/smollm2_figure07.py
#
# Asks whether the methods score alike, and which does less damage.
from config.writeup.smollm2_headline_sentiment import *  # noqa: F403

figure = 'lines'
_each = {'memory_method': [1, 2, 3]}
grid = [{'memory_fraction': [1.0, 2.0, 5.0, 10.0], **_each},
        {'softmax_scale': [0.01, 1.0, 10.0, 1000.0], **_each},
        {'memory_k': [1, 2, 5, 10], **_each}]
