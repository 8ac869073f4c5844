# A memory of many texts: real paragraphs with questions by people, from a file in SQuAD's format.
#
# $ python evaluate.py config/study/smollm2_library_paragraphs.py --squad_file=dev.json
#
# The heads were picked on XQuAD's questions, of six that made-up facts had found: of that file the share
# found is one of the choice itself (of heads picked on one half and asked of the other,
# config/find_heads_by_half.py). The six find 0.90 of it by votes alone, the four 0.92.
# In the model's chat template. The numbers are XQuAD's, 120 paragraphs and 612 questions: give another file's
# number of paragraphs as texts_together, and as many num_facts as questions are to be asked.
from config.index_heads_smollm2 import *  # noqa: F403

measure = 'library'
figure = 'library'
num_facts = 612
num_seeds = 1
max_new_tokens = 40
recall_candidates = 5
held_out_text = 'FILE:config/writeup/held_out.txt'
num_held_out = 10
grid = [{'texts_together': [120], 'condition': ['memory', 'bm25']}]
