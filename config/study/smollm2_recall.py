# What each method recalls on SmolLM2: a city's name, from a paragraph that names it four times.
#
# $ python evaluate.py config/study/smollm2_recall.py
#
# Winnipeg in Vancouver's place is the opposite text, and the substitute: does the answer follow the text?
# Methods 1 and 2 read where a search over layers had found most; what it finds on other seeds, and where it
# would read now, says smollm2_search_recall.py. 'far' is at 512 tokens but where another distance is named.
from config.smollm2_recall import *  # noqa: F403

opposite_text = open('memories/vancouver.txt').read().replace('Vancouver', 'Winnipeg')
max_new_tokens = 4  # the answer, and how it goes on
num_held_out = 6
figure = 'bars'

_by_query = {'memory_method': [4], 'memory_k': [2048], 'softmax_scale': [1.0]}
_by_key = {'memory_k': [5], 'memory_fraction': [5.0], 'bookkeeping_fraction': [0.9],
           'memory_select': ['each']}
_first_token = {'memory_k': [5], 'memory_fraction': [0.0], 'bookkeeping_fraction': [0.0],
                'memory_select': ['each']}
_substitute = {'substitute': [' Winnipeg']}
_ways = {
    'method 4, insert': {**_by_query, 'memory_positions': ['insert']},
    'method 4, far': {**_by_query, 'memory_positions': ['far']},
    'method 4, far at 64': {**_by_query, 'memory_positions': ['far'], 'memory_distance': [64]},
    'method 4, own': {**_by_query, 'memory_positions': ['own']},
    'method 1, layers 10-29': {**_by_key, 'memory_method': [1], 'memory_layers': [tuple(range(10, 30))],
                               'softmax_scale': [1.0], 'memory_positions': ['']},
    'method 2, all layers': {**_by_key, 'memory_method': [2], 'softmax_scale': [30.0],
                             'residual_fraction': [0.33], 'memory_positions': ['']},
    'method 2, layer 23': {**_by_key, 'memory_method': [2], 'memory_layers': [(23,)],
                           'softmax_scale': [1000.0], 'residual_fraction': [0.1], 'memory_positions': ['']},
    'method 2, layer 29, first token': {**_first_token, 'memory_method': [2], 'memory_layers': [(29,)],
                                        'softmax_scale': [1000.0], 'residual_fraction': [0.1],
                                        'memory_positions': ['']}}
grid = ([{'name': name, **way} for name, way in _ways.items()]
        + [{'name': f'substitute in {name}', **_ways[name], **_substitute}
           for name in ('method 4, insert', 'method 4, far at 64', 'method 1, layers 10-29')])
