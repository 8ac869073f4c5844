# A memory of a million tokens: 16,200 made-up texts, of which the model finds the one that a question means;
# all rows looked at, and the texts alone that an approximate index names.
#
# $ python evaluate.py config/study/smollm2_library_million.py
#
# The texts run through the model first, 200 to 500 tokens a second of a core. A library that holds them
# already, which an interruption does not lose, is given with --memory_file=out/million:
#
# $ python -c "from lab.made_up import stories
# $ for one in stories('prove', 1337, 16200): print(one.text)" > out/million.txt
# $ python build_memory.py config/smollm2_library.py --text=FILE:out/million.txt --split_lines=True \
# $     --memory_file=out/million
#
# Questions in the model's chat template, answered greedily.
from config.index_heads_smollm2 import *  # noqa: F403

measure = 'library'
figure = 'library'
num_facts = 250
num_seeds = 1
max_new_tokens = 24
recall_candidates = 5
held_out_text = 'FILE:config/writeup/held_out.txt'
num_held_out = 4
grid = [{'texts_together': [16200], 'memory_index': ['', 'IVF1024,SQ8'], 'condition': ['memory']},
        {'texts_together': [16200], 'condition': ['bm25']}]
