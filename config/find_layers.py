# Which layers, which heads, how strong? Searches the setting that turns a text most at bounded damage.
#
# $ python evaluate.py config/find_layers.py
# $ python evaluate.py config/find_layers_recall.py     # the same for an answer
#
# Expect minutes (fewer of num_seeds and num_held_out are faster); out/find_layers/best.py is the setting
# found, ready for sample.py, and figure.png the map. For GPT-2 give --init_from=gpt2, a prompt and a text;
# its held-out text is config/writeup/held_out.txt.
init_from = 'assets/tinyworld'
find = 'positive'
max_damage = 1.1
start = '\nCats are horrible'
memory_text = 'FILE:memories/tinyworld_cats_praise.txt'
opposite_text = 'FILE:memories/tinyworld_cats_blame.txt'
unrelated_text = 'FILE:memories/taldun.txt'
num_seeds = 40
max_new_tokens = 40
temperature = 0.8
top_k = 200

memory_layers = ()  # all are searched
memory_k = 5
memory_method = 3
memory_fraction = 5.0
bookkeeping_fraction = 0.9
softmax_scale = 0.01
residual_fraction = 0.2
memory_select = 'each'
grid = [{'memory_method': [3], 'softmax_scale': [0.01, 1.0], 'residual_fraction': [0.1, 0.2, 0.35]},
        {'memory_method': [4], 'memory_k': [128], 'softmax_scale': [0.75, 1.0, 1.25]}]
