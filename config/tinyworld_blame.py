# The mirror image of tinyworld_sentiment.py: a memory of blame, remembered on the spot, and a kind prompt.
#
# $ python sample.py config/tinyworld_blame.py
# $ python evaluate.py config/tinyworld_blame.py     # VADER's scores over 100 seeds
#
# Expect: the plain model goes on as kindly as the prompt begins; with the memory it turns unkind.
init_from = 'assets/tinyworld'
start = '\nCats are wonderful'
memory_text = 'FILE:memories/tinyworld_cats_blame.txt'
method_text = 'method 3'

measure = 'sentiment'  # of evaluate.py, from here on
opposite_text = 'FILE:memories/tinyworld_cats_praise.txt'
unrelated_text = 'FILE:memories/taldun.txt'
steering_layer = 3
steering_scale = 6.0
figure = 'boxes'

memory_layers = (5,)
memory_heads = (2, 5)  # 2 carries the sentiment, with 5 surely; others add perplexity, see find_layers.py
memory_k = 5
memory_method = 3
memory_fraction = 5.0
bookkeeping_fraction = 0.9
softmax_scale = 0.01
residual_fraction = 0.2
memory_select = 'each'
