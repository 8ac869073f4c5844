# The headline on sentiment with the embedded model: method 3, in the layer of the finder's map, its head 2,
# and head 5 beside it.
#
# $ python evaluate.py config/writeup/tinyworld_headline_sentiment.py
#
# Expect the memory of praise to turn the texts, memories of other texts not to, and a steering vector to do
# it at more damage.
init_from = 'assets/tinyworld'
measure = 'sentiment'
start = '\nCats are horrible'
memory_text = 'FILE:memories/tinyworld_cats_praise.txt'
opposite_text = 'FILE:memories/tinyworld_cats_blame.txt'
unrelated_text = 'FILE:memories/taldun.txt'
steering_layer = 3
steering_scale = 6.0  # see config/study/steering.py
num_seeds = 100
max_new_tokens = 50
temperature = 0.8
top_k = 200
figure = 'boxes'

memory_layers = (5,)
memory_heads = (2, 5)
memory_k = 5
memory_method = 3
memory_fraction = 5.0
bookkeeping_fraction = 0.9
softmax_scale = 0.01
residual_fraction = 0.2
memory_select = 'last'
