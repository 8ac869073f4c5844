# Table 4 with the embedded model: answers from a memory of Taldun, and from one in which it is called
# Perdova, by methods 2 and 4.
#
# $ python evaluate.py config/writeup/tinyworld_table4.py
#
# The summary shows the five published seeds; the numbers are those of 100.
from config.writeup.tinyworld_headline_recall import *  # noqa: F403

_method_2 = {'memory_method': [2], 'memory_layers': [(4,)], 'memory_k': [5], 'softmax_scale': [1000.0]}
grid = [{'name': 'method 4'}, {'name': 'method 4, Perdova', 'substitute': [' Perdova']},
        {'name': 'method 2', **_method_2},
        {'name': 'method 2, Perdova', **_method_2, 'substitute': [' Perdova']}]
max_new_tokens = 20
show_texts = 5
