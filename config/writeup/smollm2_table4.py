# Table 4 with SmolLM2: answers from a memory of each paragraph, and from one with another answer in it.
#
# $ python evaluate.py config/writeup/smollm2_table4.py
#
# Methods 2 and 4, over all questions.
from config.writeup.smollm2_headline_recall import *  # noqa: F403
from lab.questions import WITH_SUBSTITUTES as cases  # noqa: F401

controls = False
_whole = {'memory_method': [4], 'memory_layers': [tuple(range(30))], 'memory_k': [2048],
          'softmax_scale': [1.0], 'memory_positions': ['insert']}
grid = [{'condition': ['plain']}, {'name': 'method 2, layer 23, MF 5', 'memory_fraction': [5.0]},
        {'name': 'method 4, insert', **_whole}]
