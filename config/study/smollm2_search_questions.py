# Which layers, for recall by methods 1 to 3 over many questions on SmolLM2? A coarse search on ten questions
# like the thirty-four of smollm2_headline_recall.py, none of which is among them.
#
# $ python evaluate.py config/study/smollm2_search_questions.py
#
# Methods 1 and 3 are as sharp as smollm2_search_recall.py had them at their best on one question.
from config.study.smollm2_search_recall import _by_key, _layers, _sharp
from config.writeup.smollm2_headline_recall import *  # noqa: F403
from lab.questions import CASES_TO_SEARCH_ON as cases  # noqa: F401

num_seeds = 2  # a question
figure = 'lines'
_sets = [_layers(*ends) for ends in ((0, 29), (10, 29), (15, 29), (20, 29))]
_single = [(layer,) for layer in (11, 14, 17, 20, 22, 23, 24, 25, 26, 27, 28, 29)]
grid = [{'name': 'plain model', 'condition': ['plain']},
        {'name': 'text in the prompt', 'condition': ['prompt']},
        {'name': 'method 1, TS 1', **_by_key, 'memory_method': [1], 'softmax_scale': [1.0],
         'memory_layers': _sets},
        {'name': 'method 2, RF 0.33', 'memory_layers': _sets, 'softmax_scale': [1.0, 30.0], **_by_key,
         'memory_method': [2], 'residual_fraction': [0.33]},
        {'name': 'method 3, TS 1, RF 0.33', **_by_key, 'memory_method': [3], 'softmax_scale': [1.0],
         'residual_fraction': [0.33], 'memory_layers': _sets},
        {'name': 'method 2, one layer', **_sharp, 'memory_layers': _single},
        {'name': 'the first token alone', **_sharp, 'memory_layers': _single, 'memory_fraction': [0.0],
         'bookkeeping_fraction': [0.0]}]
