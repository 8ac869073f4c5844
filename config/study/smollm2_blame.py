# The mirror image on SmolLM2: a memory of blame, and a kind prompt.
#
# $ python evaluate.py config/study/smollm2_blame.py
#
# Expect it not to turn as the unkind prompt does.
from config.study.smollm2_sentiment import *  # noqa: F403
from config.study.smollm2_sentiment import _layers  # * leaves it out

start = '\nCats are wonderful'
memory_text = 'FILE:memories/cats_blame.txt'
opposite_text = 'FILE:memories/cats_praise.txt'

grid = [{'name': 'the template'},
        {'name': 'Table 1', 'memory_k': [5], 'memory_layers': [_layers(18, 23)]},
        {'name': 'RF 0.1', 'residual_fraction': [0.1]},
        {'name': 'method 1', 'memory_method': [1]}]
