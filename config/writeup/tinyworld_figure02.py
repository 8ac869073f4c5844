# Figure 2 with the embedded model: each token of a prompt against its nearest stored token, layer by layer.
#
# $ python evaluate.py config/writeup/tinyworld_figure02.py
#
# Asks whether keys are mostly positions in the first layers here too.
from config.writeup.tinyworld_headline_sentiment import *  # noqa: F403

measure = 'look_ups'
start = '\nEveryone I know loves the old bridge, and my neighbour praises it every day because it is lovely'
max_new_tokens = 1
figure = 'scatter'

memory_layers = (0, 1, 2, 3, 4, 5)
memory_heads = ()
memory_k = 1
memory_method = 1
memory_fraction = 5.0  # a longer prompt, and more of its tokens: 1 shows few points on this model
bookkeeping_fraction = 0.0
softmax_scale = 1.0
