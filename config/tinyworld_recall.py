# A question answered from a remembered paragraph that is in no prompt. The twin of
# sample_gpt2_type_2_method.py.
#
# $ python sample.py config/tinyworld_recall.py
# $ python evaluate.py config/tinyworld_recall.py     # the share of right answers over unseen facts
#
# Expect: without memory one of Norland's cities that the model knows; with memory Taldun, a name it was
# never trained on. The first run builds memories/taldun.safetensors, later ones load it.
init_from = 'assets/tinyworld'
start = '\nThe name of the city with the third-largest library in Norland is'
memory_text = 'FILE:memories/taldun.txt'
memory_file = 'memories/taldun.safetensors'
method_text = 'method 4'
compare_prompt = True
max_new_tokens = 12

measure = 'facts'  # of evaluate.py, from here on
num_seeds = 20  # draws a question

memory_layers = (0, 1, 2, 3, 4, 5)
memory_k = 128  # a whole paragraph
memory_method = 4
softmax_scale = 0.75  # 1 recalls a little more, and costs more perplexity on other subjects
