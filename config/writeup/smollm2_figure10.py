# Figure 10 with SmolLM2: right answers for each layer by method 2, BF 0.9, TS 1000, k 5, over all questions,
# with MF 5 and from the first token alone.
#
# $ python evaluate.py config/writeup/smollm2_figure10.py
#
# Asks whether one layer alone is enough, and whether its first token is.
from config.writeup.smollm2_headline_recall import *  # noqa: F403

figure = 'lines'
controls = True
grid = [{'memory_layers': [*((layer,) for layer in range(2, 30, 3)), (15, 16, 17, 18, 19, 20, 21, 22),
                           (23, 24, 25, 26, 27), tuple(range(15, 30))], 'memory_fraction': [0.0, 5.0]}]
