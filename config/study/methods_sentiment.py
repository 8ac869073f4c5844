# What each method does to sentiment, by both readings of "who picks", with the strengths that each needs.
#
# $ python evaluate.py config/study/methods_sentiment.py
#
# Methods 1 to 3 search by key, method 4 by query. They read in layer 5, in the two heads that carry the
# sentiment or in all heads; where only the last layer reads, 'last' and 'each' are the same function of the
# newest token, so layers 3-5 are compared as well.
from config.writeup.tinyworld_headline_sentiment import *  # noqa: F403

_where = {'memory_select': ['last', 'each'], 'memory_heads': [(2, 5), ()]}
grid = [{'name': 'method 1', 'memory_method': [1], 'softmax_scale': [0.01, 1.0], **_where},
        {'name': 'method 2', 'memory_method': [2], 'softmax_scale': [0.01, 1000.0], **_where},
        {'name': 'method 3', 'memory_method': [3], 'softmax_scale': [0.01, 1.0], **_where},
        {'name': 'method 4', 'memory_method': [4], 'memory_k': [128], 'softmax_scale': [0.75, 1.0, 1.5],
         'memory_heads': [(2, 5), ()]},
        {'name': 'layers 3-5', 'memory_layers': [(3, 4, 5)], 'memory_heads': [()], 'memory_method': [1, 3],
         'softmax_scale': [0.01, 1.0], 'memory_select': ['last', 'each']}]
