# What else could answer a question on one of many texts: BM25's choice in the prompt, and methods 1 to 4,
# which look all texts up at once, as config/study/smollm2_recall.py has them at their best.
#
# $ python evaluate.py config/study/smollm2_library_peers.py
#
# On made-up facts. Methods 1 to 4 keep all layers' rows, 46 KB a token in float32.
from config.study.smollm2_library_facts import *  # noqa: F403

num_facts = 50
num_held_out = 6
_all = tuple(range(30))
_by_key = {'memory_k': [5], 'memory_fraction': [5.0], 'bookkeeping_fraction': [0.9],
           'memory_select': ['each'], 'texts_together': [1, 10, 100]}
grid = [{'texts_together': [1, 10, 100], 'condition': ['memory', 'bm25']},
        {'name': 'method 4, far', 'memory_method': [4], 'memory_layers': [_all], 'memory_k': [2048],
         'softmax_scale': [1.0], 'texts_together': [1, 10, 100]},
        {'name': 'method 1, layers 10-29', 'memory_method': [1], 'memory_layers': [_all[10:]],
         'softmax_scale': [1.0], **_by_key},
        {'name': 'method 2, all layers', 'memory_method': [2], 'memory_layers': [_all],
         'softmax_scale': [30.0], 'residual_fraction': [0.33], **_by_key},
        {'name': 'method 3, layers 10-29', 'memory_method': [3], 'memory_layers': [_all[10:]],
         'softmax_scale': [1.0], 'residual_fraction': [0.33], **_by_key}]
