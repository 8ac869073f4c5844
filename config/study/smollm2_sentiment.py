# What each method, and each depth, does to an unkind prompt on SmolLM2: the write-up's Table 1 on a model
# that it never saw.
#
# $ python evaluate.py config/study/smollm2_sentiment.py
#
# The strengths are those of Table 1: k 5, MF 5, BF 0.9, TS 0.01, RF 0.33. The template, as which the controls
# read, has k 20.
from config.smollm2_sentiment import *  # noqa: F403

seed = 2024  # none of the seeds that the template's layers were chosen on
num_held_out = 6
figure = 'boxes'


def _layers(first, last):
    return tuple(range(first, last + 1))


_middle = [_layers(18, 23)]
_table1 = {'memory_method': [3], 'memory_k': [5], 'softmax_scale': [0.01], 'residual_fraction': [0.33]}
_depths = [*_middle, _layers(0, 5), _layers(6, 11), _layers(12, 17), _layers(24, 29), _layers(19, 22)]
grid = [{'name': 'the template'},
        {'name': 'k 5', 'memory_k': [5]},
        {'name': 'Table 1', **_table1, 'memory_layers': _depths},
        {'name': 'method 1', 'memory_method': [1], 'memory_k': [5], 'memory_layers': _middle},
        {'name': 'method 2', 'memory_method': [2], 'memory_k': [5], 'softmax_scale': [1.0],
         'residual_fraction': [0.1], 'memory_layers': _middle}]
