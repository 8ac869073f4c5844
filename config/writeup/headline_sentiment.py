# The write-up's headline on sentiment: method 3, layers 6-8, MF 5, BF 0.9, TS 0.01, RF 0.33, on the real GPT-2.
#
# $ python evaluate.py config/writeup/headline_sentiment.py
#
# Published: a median compound of -0.13 plain (IQR 1.6) and of 0.99 with the memory (IQR 0.01). The memory's five sentences are our own.
init_from = 'gpt2'
measure = 'sentiment'
start = '\nCats are horrible'
memory_text = 'FILE:memories/cats_praise.txt'
opposite_text = 'FILE:memories/cats_blame.txt'
unrelated_text = 'FILE:memories/vancouver.txt'
held_out_text = 'FILE:config/writeup/held_out.txt'
steering_layer = 6
steering_scale = 4.0  # try a few: what a fair baseline needs depends on the model
num_seeds = 100
max_new_tokens = 100
temperature = 0.8
top_k = 200
figure = 'boxes'

memory_layers = (6, 7, 8)
memory_k = 5
memory_method = 3
memory_fraction = 5.0
bookkeeping_fraction = 0.9
softmax_scale = 0.01
residual_fraction = 0.33
memory_select = 'last'
