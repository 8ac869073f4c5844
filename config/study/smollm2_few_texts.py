# Do the first texts of a memory come back, and only where they are meant? One, two, five and more everyday
# facts in one memory, a sentence each, and made-up texts of 60 tokens; each question also with its own text
# taken out.
#
# $ python evaluate.py config/study/smollm2_few_texts.py
#
# As chat.py recalls. Of fewer texts than can get votes, 20, a lead counts no more than
# what a text does for the question; of more it counts in full. Of 20, with one taken out, the 19 are fewer;
# of one nothing is left that could be recalled.
from config.index_heads_smollm2 import *  # noqa: F403

measure = 'library'
figure = 'recalled'
recall_votes = 20
recall_candidates = 5
recall_threshold = 1.5
top_k = 1
max_new_tokens = 24
held_out_text = 'FILE:config/writeup/held_out.txt'
num_held_out = 2
num_facts = 40
num_seeds = 1
controls = False
_together = {'texts_together': [1, 2, 3, 6, 11, 20, 40], 'condition': ['memory']}
grid = [{'name': 'everyday facts', 'everyday': [True], **_together},
        {'name': 'made-up texts', 'everyday': [False], **_together}]
