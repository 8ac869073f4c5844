# Figure 2 with SmolLM2: each token of a prompt against its nearest stored token, in every third layer.
#
# $ python evaluate.py config/writeup/smollm2_figure02.py
#
# Asks whether keys are positions here too: they are stored as they were before the rotation.
from config.writeup.headline_sentiment import *  # noqa: F403

init_from = 'smollm2'
measure = 'look_ups'
start = '\nHow did you'
max_new_tokens = 1
figure = 'scatter'

memory_layers = tuple(range(0, 30, 3))
memory_k = 1
memory_method = 1
memory_fraction = 5.0  # the first token takes so much of the attention that 1 shows few points
bookkeeping_fraction = 0.0
softmax_scale = 1.0
