# Pass keys in a haystack: fifty sentences, each with a number, hidden in up to 1,000,000 tokens of other text
# in one memory. Is the text with the one that is asked for found, and the number said?
#
# $ python evaluate.py config/study/smollm2_haystack.py
#
# The other texts are made up and run through the model, 300 to 1,000 tokens a second; 16,000 texts that ran
# before are read from a library with --memory_file=LIBRARY --grid="[{'texts_together': [16000]}]".
from config.index_heads_smollm2 import *  # noqa: F403

measure = 'library'
figure = 'haystack'
pass_keys = True
num_facts = 50
recall_candidates = 5
num_seeds = 1
max_new_tokens = 20
held_out_text = 'FILE:config/writeup/held_out.txt'
num_held_out = 4
grid = [{'texts_together': [16, 160, 1600], 'condition': ['memory', 'bm25']}]
