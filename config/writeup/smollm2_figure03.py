# Figure 3 with SmolLM2: MF, k, TS and BF varied one by one, in all layers or the upper half, both ways to
# create a memory.
#
# $ python evaluate.py config/writeup/smollm2_figure03.py
#
# Asks whether sentiment rises with MF and is flat beyond 5 here too. Method 1.
from config.writeup.smollm2_headline_sentiment import *  # noqa: F403

memory_layers = tuple(range(15, 30))  # of the controls
memory_k = 2
memory_method = 1
bookkeeping_fraction = 0.0
softmax_scale = 1.0
figure = 'lines'
_each = {'memory_layers': [tuple(range(30)), tuple(range(15, 30))], 'bookkeeping_tokens': [0, 1]}
grid = [{'memory_fraction': [0.0, 1.0, 2.0, 5.0, 10.0], **_each},
        {'memory_k': [1, 2, 5, 10], **_each},
        {'softmax_scale': [0.01, 1.0, 10.0, 1000.0], **_each},
        {'bookkeeping_fraction': [0.0, 0.5, 0.9, 1.0], **_each}]
