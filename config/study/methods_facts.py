# What each method recalls of 100 facts that training never saw, each remembered as a paragraph, by both
# readings of "who picks".
#
# $ python evaluate.py config/study/methods_facts.py
#
# Methods 1 to 3 search by key, method 4 by query.
from config.writeup.tinyworld_headline_recall import *  # noqa: F403

measure = 'facts'
num_facts = 100
num_seeds = 1  # one draw a question
_each = {'memory_layers': [(4,), (5,), (0, 1, 2, 3, 4, 5)], 'memory_select': ['last', 'each']}
_keys = {'memory_k': [5], 'memory_fraction': [5.0], 'bookkeeping_fraction': [0.5]}
grid = [{'name': 'method 1', 'memory_method': [1], 'softmax_scale': [1.0], **_keys, **_each},
        {'name': 'method 2', 'memory_method': [2], 'softmax_scale': [1000.0], **_keys, **_each},
        {'name': 'method 3', 'memory_method': [3], 'softmax_scale': [1.0], **_keys, **_each},
        {'name': 'method 4', 'softmax_scale': [0.75, 1.0],
         'memory_layers': [(4,), (5,), (0, 1, 2, 3, 4, 5)]}]
