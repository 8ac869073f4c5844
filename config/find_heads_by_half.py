# Which heads know which text is meant, picked on one half of real paragraphs, by article: what do they find
# in the other half, which had no part in the choice? Beside them those of the library, which were picked on
# all of XQuAD, and BM25.
#
# $ python evaluate.py config/find_heads_by_half.py --squad_file=dev.json
#
# Expect half an hour of one core. out/find_heads_by_half/best.py has the heads picked on all of the file.
from config.index_heads_smollm2 import *  # noqa: F403

find = 'index_heads_by_half'
measure = 'library'
recall_candidates = 5
