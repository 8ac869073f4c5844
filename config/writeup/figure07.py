# The write-up's Figure 7: methods 1, 2 and 3 on layers 6-8, with MF, TS and k varied, on the real GPT-2.
#
# $ python evaluate.py config/writeup/figure07.py
#
# Published: the scores are alike, and the residual reads better.
from config.writeup.headline_sentiment import *  # noqa: F403

figure = 'lines'
_each = {'memory_method': [1, 2, 3]}
grid = [{'memory_fraction': [1.0, 2.0, 5.0, 10.0], **_each},
        {'softmax_scale': [0.01, 1.0, 10.0, 1000.0], **_each},
        {'memory_k': [1, 2, 5, 10], **_each}]
