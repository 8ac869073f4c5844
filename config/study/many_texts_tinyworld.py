# When does recall break, and does choosing one text mend it? 1 to 200 paragraphs in one memory of the
# embedded model: all rows of all texts searched (method 4), or the text read that a few heads choose, by
# votes alone or among the best five by reading (method 5).
#
# $ python evaluate.py config/study/many_texts_tinyworld.py
#
# Where the index heads come from says config/index_heads_tinyworld.py.
from config.index_heads_tinyworld import index_heads as _heads
from config.study.methods_facts import *  # noqa: F403

figure = 'lines'
memory_select = 'each'
softmax_scale = 1.0
_texts = {'texts_together': [1, 4, 16, 64, 200]}
grid = [{'name': 'method 4', **_texts, 'memory_k': [128]},
        {'name': 'method 5', **_texts, 'memory_method': [5], 'memory_layers': [()],
         'index_heads': [_heads], 'recall_candidates': [1, 5]}]
