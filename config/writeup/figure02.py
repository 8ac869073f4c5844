# The write-up's Figure 2: each token of "How did you" against its nearest stored token, layer by layer, on
# the real GPT-2.
#
# $ python evaluate.py config/writeup/figure02.py
#
# Published: a diagonal in layers 0 and 1, where keys are mostly positions, gone by layer 5.
from config.writeup.headline_sentiment import *  # noqa: F403

measure = 'look_ups'
start = '\nHow did you'
max_new_tokens = 1
figure = 'scatter'

memory_layers = tuple(range(12))
memory_k = 1
memory_method = 1
memory_fraction = 1.0
bookkeeping_fraction = 0.0
softmax_scale = 1.0
