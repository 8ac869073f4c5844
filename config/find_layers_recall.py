# Which layers, which heads, how strong? Searches the setting that recalls an answer best at bounded damage.
#
# $ python evaluate.py config/find_layers_recall.py
#
# Expect minutes. The published methods are among the strengths that it tries, and so is method 4.
from config.find_layers import *  # noqa: F403
from config.writeup.tinyworld_headline_recall import (  # noqa: F401
    answer,
    measure,
    memory_text,
    opposite_text,
    start,
    unrelated_text,
)

find = 'answer'
num_seeds = 20
max_new_tokens = 5

memory_k = 128
memory_method = 4
softmax_scale = 1.0
grid = [{'memory_layers': [(0, 1, 2, 3, 4, 5), (3, 4, 5)], 'softmax_scale': [0.5, 0.75, 1.0]},
        {'memory_method': [2, 3], 'memory_k': [5], 'softmax_scale': [0.01, 1.0, 1000.0],
         'residual_fraction': [0.1, 0.35]}]
