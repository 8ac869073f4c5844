# Which layers, how sharp, for recall by methods 1 to 3 on SmolLM2? A coarse search on the one question of
# smollm2_recall.py: 24 draws a setting, of other seeds than are measured there.
#
# $ python evaluate.py config/study/smollm2_search_recall.py
#
# p(answer) needs no draws, so on this question it is what is reported too: what the best of these is worth
# on others, smollm2_questions.py says, and smollm2_search_questions.py what a search on several would take.
from config.smollm2_recall import *  # noqa: F403

seed = 2024
num_seeds = 24
num_held_out = 1
max_new_tokens = 1  # and as many as the answer has
controls = False
figure = 'lines'


def _layers(first, last):
    return tuple(range(first, last + 1))


_sets = [_layers(*ends) for ends in (
    (0, 29), (5, 29), (10, 29), (15, 29), (20, 29), (10, 19), (15, 22), (23, 27))]
_single = [(layer,) for layer in range(11, 30)]
_by_key = {'memory_k': [5], 'memory_fraction': [5.0], 'bookkeeping_fraction': [0.9],
           'memory_select': ['each'], 'memory_positions': ['']}
_sharp = {**_by_key, 'memory_method': [2], 'softmax_scale': [1000.0], 'residual_fraction': [0.1]}
grid = [{'name': 'plain model', 'condition': ['plain']},
        {'name': 'text in the prompt', 'condition': ['prompt']},
        {'name': 'method 1', 'memory_layers': _sets, 'softmax_scale': [1.0, 30.0], **_by_key,
         'memory_method': [1]},
        {'name': 'method 2, RF 0.33', 'memory_layers': _sets, 'softmax_scale': [1.0, 30.0], **_by_key,
         'memory_method': [2], 'residual_fraction': [0.33]},
        {'name': 'method 3, RF 0.33', 'memory_layers': _sets, 'softmax_scale': [1.0, 30.0], **_by_key,
         'memory_method': [3], 'residual_fraction': [0.33]},
        {'name': 'method 2, one layer', 'memory_layers': _single, **_sharp},
        {'name': 'the first token alone', 'memory_layers': _single, **_sharp, 'memory_fraction': [0.0],
         'bookkeeping_fraction': [0.0]}]
