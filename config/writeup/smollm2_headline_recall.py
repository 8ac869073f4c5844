# The headline on recall with SmolLM2: thirty-four questions like the write-up's, each about a paragraph of
# ours.
#
# $ python evaluate.py config/writeup/smollm2_headline_recall.py
#
# Does a fraction of the first token's heads in one layer recall? Layer 9 of 12 is 23 of 30; 29 is where a
# search on one question found most. Beside them more look-ups, and methods that attend to the whole text.
# The unit is the question. 'each' stands for 'last': smollm2_figure11.py has both.
from lab.questions import QUESTIONS_AS_CASES as cases  # noqa: F401

init_from = 'smollm2'
measure = 'recall'
unrelated_text = 'FILE:memories/cats_praise.txt'
held_out_text = 'FILE:config/writeup/held_out.txt'
num_held_out = 1  # a question
num_seeds = 4  # a question
max_new_tokens = 1  # and as many as the answer has
temperature = 0.8
top_k = 200
figure = 'bars'

memory_layers = (23,)
memory_k = 5
memory_method = 2
memory_fraction = 0.0
bookkeeping_fraction = 0.9
softmax_scale = 1000.0
residual_fraction = 0.1
memory_select = 'each'
_whole = {'memory_method': [4], 'memory_layers': [tuple(range(30))], 'memory_k': [2048],
          'softmax_scale': [1.0]}
grid = [{'name': 'method 2, layer 23, first token, BF 0.9'},
        {'name': 'method 2, layer 23, first token, BF 0', 'bookkeeping_fraction': [0.0]},
        {'name': 'method 2, layer 29, first token, BF 0', 'bookkeeping_fraction': [0.0],
         'memory_layers': [(29,)]},
        {'name': 'method 2, layer 23, MF 5', 'memory_fraction': [5.0]},
        {'name': 'method 1, layers 10-29, MF 5, TS 1', 'memory_method': [1], 'memory_fraction': [5.0],
         'memory_layers': [tuple(range(10, 30))], 'softmax_scale': [1.0]},
        {'name': 'method 4, insert', **_whole, 'memory_positions': ['insert']},
        {'name': 'method 4, far at 64', **_whole, 'memory_positions': ['far'], 'memory_distance': [64]}]
