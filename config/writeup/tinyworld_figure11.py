# Figure 11 with the embedded model: one layer by method 2, with MF, BF, TS and k varied.
#
# $ python evaluate.py config/writeup/tinyworld_figure11.py
#
# Asks whether any strength recalls by method 2. With MF 5, not 0: the first token alone finds nothing on
# this model.
from config.writeup.tinyworld_headline_recall import *  # noqa: F403

figure = 'lines'
memory_layers = (5,)
memory_k = 5
memory_method = 2
memory_fraction = 5.0
softmax_scale = 1000.0
grid = [{'memory_fraction': [0.0, 1.0, 5.0, 10.0]},
        {'bookkeeping_fraction': [0.0, 0.5, 0.8, 0.9, 0.95, 1.0]},
        {'softmax_scale': [0.01, 1.0, 10.0, 1000.0]},
        {'memory_k': [1, 2, 5, 10]}]
