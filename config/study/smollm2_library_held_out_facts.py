# What a memory of a hundred made-up texts costs text on other subjects, where it may abstain; and how many of
# twenty questions recall their text at the same threshold, and something else with their text taken out.
#
# $ python evaluate.py config/study/smollm2_library_held_out_facts.py
#
# 2.25 is the threshold that config/find_index_heads.py set on facts of another world.
from config.study.smollm2_library_held_out import *  # noqa: F403

num_facts = 20
grid = [{'name': 'plain model', 'condition': ['plain']},
        {'name': 'memory', 'texts_together': [100], 'recall_threshold': [0.0, 2.25]}]
