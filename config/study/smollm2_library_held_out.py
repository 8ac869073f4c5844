# What a memory of real paragraphs costs text on other subjects, where it may abstain: held-out perplexity at
# no threshold, and at the one from which a tenth of questions recall something falsely.
#
# $ python evaluate.py config/study/smollm2_library_held_out.py --squad_file=dev.json
#
# Sixteen paragraphs that no memory is about. The questions are eight, to see that it is the same memory: how
# much of what is there each threshold recalls says smollm2_library_abstaining.py.
from config.study.smollm2_library_paragraphs import *  # noqa: F403

figure = 'lines'
num_facts = 8
num_held_out = 16
grid = [{'name': 'plain model', 'condition': ['plain']},
        {'name': 'memory', 'texts_together': [120], 'recall_threshold': [0.0, 1.66]}]
controls = False
