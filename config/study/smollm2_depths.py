# Where in SmolLM2 does a memory of praise turn an unkind prompt, and by which method?
#
# $ python evaluate.py config/study/smollm2_depths.py
#
# The strengths are those of the write-up's Table 1.
from config.study.smollm2_sentiment import *  # noqa: F403

controls = False
memory_k = 5
_ends = [(0, 5), (6, 11), (12, 17), (18, 23), (24, 29), (19, 22)]
_middle = {'memory_layers': [tuple(range(18, 24))]}
grid = [{'condition': ['plain']},
        {'memory_layers': [tuple(range(first, last + 1)) for first, last in _ends]},
        {'name': 'method 1', 'memory_method': [1], **_middle},
        {'name': 'method 2', 'memory_method': [2], 'softmax_scale': [1.0], 'residual_fraction': [0.1],
         **_middle}]
