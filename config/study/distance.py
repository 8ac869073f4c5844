# A fact far back in the context against the same fact in memory: up to 225 tokens of other text before the
# question.
#
# $ python evaluate.py config/study/distance.py
#
# The context holds 256 tokens. Where paragraph, other text and question are longer, the prompt is cropped
# from the left.
from config.study.methods_facts import *  # noqa: F403

figure = 'lines'
memory_select = 'each'
softmax_scale = 1.0
grid = [{'distance': [0, 50, 100, 150, 175, 200, 225], 'condition': ['memory', 'prompt', 'plain']}]
