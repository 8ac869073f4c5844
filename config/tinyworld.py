# A paragraph, remembered on the spot, answers a question that the embedded model cannot know. The twin of
# sample_gpt2.py.
#
# $ python sample.py config/tinyworld.py
#
# Expect: without memory the census of Taldun is some number, another in each text; with memory it is 4831,
# which stands in memories/taldun.txt and in no prompt. The text in the prompt shows what the model can
# make of it at best.
init_from = 'assets/tinyworld'
start = '\nIn the last census Taldun counted'
memory_text = 'FILE:memories/taldun.txt'
compare_prompt = True
num_samples = 3
max_new_tokens = 12

memory_layers = (0, 1, 2, 3, 4, 5)
memory_k = 128  # a whole paragraph
memory_method = 4  # extended attention: methods 1 to 3 recall little on this model, see the README
softmax_scale = 1.0  # 0.75 costs less perplexity on other subjects, and recalls a little less
