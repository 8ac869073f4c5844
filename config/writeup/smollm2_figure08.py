# Figure 8 with SmolLM2: right answers for each set of layers, method 1, BF 0.1, MF 1, TS 1, k 3, over all
# questions.
#
# $ python evaluate.py config/writeup/smollm2_figure08.py
#
# Asks whether one late layer about equals the text in the prompt. The write-up's 9 of 12 is 23, 9 and 10 are
# 23 to 27.
from config.writeup.smollm2_headline_recall import *  # noqa: F403

memory_k = 3
memory_method = 1
memory_fraction = 1.0
bookkeeping_fraction = 0.1
softmax_scale = 1.0
controls = True
grid = [{'memory_layers': [*((layer,) for layer in range(2, 30, 3)), tuple(range(23, 28)),
                           tuple(range(15, 23)), tuple(range(15, 30)), tuple(range(30))]}]
