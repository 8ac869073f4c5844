# The headline on recall with the embedded model: the published method 2, and method 4, in layers and
# strengths of this model.
#
# $ python evaluate.py config/writeup/tinyworld_headline_recall.py
#
# Expect method 2 to answer no better than the plain model, and method 4 nearly always right.
init_from = 'assets/tinyworld'
measure = 'recall'
start = '\nThe name of the city with the third-largest library in Norland is'
answer = ' Taldun'
memory_text = 'FILE:memories/taldun.txt'
opposite_text = open('memories/taldun.txt').read().replace('Taldun', 'Perdova')
unrelated_text = 'FILE:memories/tinyworld_cats_praise.txt'
num_seeds = 100
max_new_tokens = 10
temperature = 0.8
top_k = 200
figure = 'bars'

memory_layers = (0, 1, 2, 3, 4, 5)  # method 4: the controls read like this
memory_k = 128
memory_method = 4
memory_fraction = 0.0
bookkeeping_fraction = 0.9
softmax_scale = 0.75
residual_fraction = 0.1
memory_select = 'last'
_published = {'memory_method': [2], 'memory_layers': [(4,), (5,)],
              'memory_k': [5], 'softmax_scale': [1000.0]}
grid = [{'name': 'method 2', **_published}, {'name': 'method 4, all layers'}]
