# Heads picked on one half of real paragraphs, by article: what do they find in the other half, which had no
# part in the choice? Beside them the library's four, which were picked on all of XQuAD, and BM25.
#
# $ python evaluate.py config/study/smollm2_heads_by_half.py --squad_file=dev.json
from config.index_heads_smollm2 import *  # noqa: F403

find = 'index_heads_by_half'
measure = 'library'
recall_candidates = 5
