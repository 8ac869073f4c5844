# Method 2 of the write-up, from a memory file and with every look-up listed: the recall of Table 4, on the
# real model.
#
# $ python sample.py config/sample_gpt2_type_2_method.py
#
# Expect: the first run builds memories/vancouver.safetensors, later ones load it. The list is the
# write-up's Table 2: which head looked up, how much attention the first token got (Eq. 1), the memory's
# rows, distances and tokens, and their ranks (Eq. 5).
init_from = 'gpt2'
start = '\nThe name of the city with the third-largest metropolitan area in Canada is'
memory_text = 'FILE:memories/vancouver.txt'
memory_file = 'memories/vancouver.safetensors'
method_text = 'method 2'
trace = True
compare_prompt = True
max_new_tokens = 50
temperature = 0.8
top_k = 200

memory_layers = (9,)
memory_k = 5
memory_method = 2
memory_fraction = 0.0
bookkeeping_fraction = 0.9
softmax_scale = 1000.0
residual_fraction = 0.1
memory_select = 'last'
