# Method 3 of the write-up: a memory of praise and an unkind prompt, the sentiment of Table 1, on the real
# model.
#
# $ python sample.py config/sample_gpt2_type_3_method.py
#
# Expect: "Cats are horrible" goes on more kindly with the memory than without. Three layers read, and most
# token-heads look up. Without a network: --init_from=<a folder in Hugging Face format>, and
# TIKTOKEN_CACHE_DIR set to a folder with the vocabulary.
init_from = 'gpt2'
start = '\nCats are horrible'
memory_text = 'FILE:memories/cats_praise.txt'
method_text = 'method 3'
max_new_tokens = 50
temperature = 0.8
top_k = 200

memory_layers = (6, 7, 8)
memory_k = 5
memory_method = 3
memory_fraction = 5.0
bookkeeping_fraction = 0.9
softmax_scale = 0.01
residual_fraction = 0.33
memory_select = 'last'
