# Plain GPT-2 beside GPT-2 with a remembered paragraph: the write-up's Table 4, on the real model.
#
# $ python sample.py config/sample_gpt2.py
#
# Expect: the prompt asks for a city that the memory text names four times. One layer reads, and only where
# the first token takes more than 0.9 of the attention: a handful of look-ups. Some of the five texts
# should answer Vancouver that did not before. Without a network: --init_from=<a folder in Hugging Face
# format>, and TIKTOKEN_CACHE_DIR set to a folder with the vocabulary.
init_from = 'gpt2'
start = '\nThe name of the city with the third-largest metropolitan area in Canada is'
memory_text = 'FILE:memories/vancouver.txt'
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
