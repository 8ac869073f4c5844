# A memory of many texts: made-up facts, 1 to 800 of them in one memory, of which the model finds the one that
# is meant (method 5). Beside it BM25's choice in the prompt, the right text in the prompt, and read alone.
#
# $ python evaluate.py config/study/smollm2_library_facts.py
#
# Sentences to complete, greedily. Names, forms and relations are not those that found the index heads.
from config.index_heads_smollm2 import *  # noqa: F403

measure = 'library'
figure = 'library'
chat = False
num_facts = 100
num_seeds = 1  # the likeliest answers, not drawn ones
max_new_tokens = 10
held_out_text = 'FILE:config/writeup/held_out.txt'
num_held_out = 10
grid = [{'texts_together': [1, 10, 100, 800], 'condition': ['memory', 'bm25']},
        {'name': 'several, side by side', 'texts_together': [100], 'recall_texts': [2, 4]},
        {'name': 'right text, far', 'condition': ['right'], 'memory_positions': ['far'],
         'memory_distance': [512, 200, 64]}]
