# When does recall break, and does choosing one text mend it? 1 to 200 paragraphs in one memory of the
# embedded model: all rows of all texts searched (method 4), or the text read that a few heads choose, by
# votes alone or among the best five by reading (method 5).
#
# $ python evaluate.py config/study/many_texts_tinyworld.py
#
# The index heads are those of: python evaluate.py config/find_index_heads.py --init_from=assets/tinyworld
# --chat=False --tinyworld=True --texts_together=200 --recall_votes=40
from config.study.methods_facts import *  # noqa: F403

figure = 'lines'
memory_select = 'each'
softmax_scale = 1.0
_texts = {'texts_together': [1, 4, 16, 64, 200]}
grid = [{'name': 'method 4', **_texts, 'memory_k': [128]},
        {'name': 'method 5', **_texts, 'memory_method': [5], 'memory_layers': [()],
         'index_heads': [((5, 1), (5, 2), (5, 3), (5, 5))], 'recall_candidates': [1, 5]}]
