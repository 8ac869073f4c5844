# The write-up's headline on recall: method 2, layer 9, bookkeeping token only, TS 1000, on the real GPT-2.
#
# $ python evaluate.py config/writeup/headline_recall.py
#
# Published: 15 of 100 seeds answer right from the question alone, 53 with the text in the prompt, and with the memory as many or more,
# with 5 of 2160 token-heads searched. The paragraph is our own.
init_from = 'gpt2'
measure = 'recall'
start = '\nThe name of the city with the third-largest metropolitan area in Canada is'
answer = ' Vancouver'
memory_text = 'FILE:memories/vancouver.txt'
opposite_text = open('memories/vancouver.txt').read().replace('Vancouver', 'Toronto')
unrelated_text = 'FILE:memories/cats_praise.txt'
held_out_text = 'FILE:config/writeup/held_out.txt'
num_seeds = 100
max_new_tokens = 10
temperature = 0.8
top_k = 200
figure = 'bars'

memory_layers = (9,)
memory_k = 5
memory_method = 2
memory_fraction = 0.0
bookkeeping_fraction = 0.9
softmax_scale = 1000.0
residual_fraction = 0.1
memory_select = 'last'
