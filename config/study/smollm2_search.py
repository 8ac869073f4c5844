# Which layers, and how strong? A coarse search for what turns an unkind prompt on SmolLM2 at the least
# perplexity of its texts: 24 seeds a setting.
#
# $ python evaluate.py config/study/smollm2_search.py
#
# The template has the best of these, which is partly luck: smollm2_sentiment.py measures it on other seeds.
from config.smollm2_sentiment import *  # noqa: F403

memory_k = 5
num_seeds = 24
num_held_out = 2
controls = False
figure = 'lines'


def _layers(first, last):
    return tuple(range(first, last + 1))


_best = {'memory_layers': [_layers(17, 22)]}
grid = [{'condition': ['plain', 'prompt']},
        {'memory_layers': [_layers(*ends) for ends in (
            (18, 23), (15, 21), (16, 21), (17, 22), (18, 22), (17, 21), (19, 23), (17, 20), (18, 21),
            (19, 22), (20, 23), (18, 20), (20, 22), (21, 23))] + [(17, 19, 21), (17, 19, 20, 22)]},
        {'name': '17-22, RF', **_best, 'residual_fraction': [0.5]},
        {'name': '18-23, RF', 'memory_layers': [_layers(18, 23)], 'residual_fraction': [0.45, 0.55]},
        {'name': '15-23, RF', 'memory_layers': [_layers(15, 23)], 'residual_fraction': [0.5]},
        {'name': '17-22, MF', **_best, 'memory_fraction': [2.0]},
        {'name': '17-22, TS', **_best, 'softmax_scale': [1.0]},
        {'name': '17-22, k', **_best, 'memory_k': [20]}]
