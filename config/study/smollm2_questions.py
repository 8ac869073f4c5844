# What each method recalls over thirty-four questions like the write-up's, on SmolLM2, with controls.
#
# $ python evaluate.py config/study/smollm2_questions.py
#
# The controls read as method 4 does, inserted.
from config.writeup.smollm2_headline_recall import *  # noqa: F403

controls = True
memory_layers = tuple(range(30))
memory_k = 2048
memory_method = 4
softmax_scale = 1.0
memory_positions = 'insert'
_by_key = {'memory_k': [5], 'memory_fraction': [5.0], 'memory_positions': ['']}
grid = [{'name': 'method 4, insert'},
        {'name': 'method 4, far at 64', 'memory_positions': ['far'], 'memory_distance': [64]},
        {'name': 'method 2, layer 23, MF 5', **_by_key, 'memory_method': [2], 'memory_layers': [(23,)],
         'softmax_scale': [1000.0]},
        {'name': 'method 1, layers 10-29, MF 5, TS 1', **_by_key, 'memory_method': [1],
         'memory_layers': [tuple(range(10, 30))]}]
