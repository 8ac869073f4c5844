# The mirror image on SmolLM2: a memory of blame, and a kind prompt.
#
# $ python evaluate.py config/study/smollm2_blame.py
#
# As the template reads, and stronger; beside it a memory of a text on something else.
from config.study.smollm2_sentiment import *  # noqa: F403

start = '\nCats are wonderful'
memory_text = 'FILE:memories/cats_blame.txt'
controls = False
grid = [{'condition': ['plain', 'unrelated']},
        {'name': 'the template'},
        {'name': 'layers 15-24, RF 0.1', 'memory_layers': [tuple(range(15, 25))], 'residual_fraction': [0.1]},
        {'name': 'method 1', 'memory_method': [1]}]
