# The headline on recall with SmolLM2: does a fraction of the first token's heads in one layer recall?
# Thirty-four questions like the write-up's, each about a paragraph of ours.
#
# $ python evaluate.py config/writeup/smollm2_headline_recall.py
#
# In layer 29, in all heads, where a search on one question found most (config/study/smollm2_search_recall.py;
# on ten others smollm2_search_questions.py). Beside it the text in the prompt. The unit is the question.
# smollm2_figure10.py has other layers and BF 0.9, config/study/smollm2_questions.py other methods.
from lab.questions import QUESTIONS_AS_CASES as cases  # noqa: F401

init_from = 'smollm2'
measure = 'recall'
unrelated_text = 'FILE:memories/cats_praise.txt'
held_out_text = 'FILE:config/writeup/held_out.txt'
num_held_out = 1  # a question
num_seeds = 4  # a question
max_new_tokens = 1  # and as many as the answer has
temperature = 0.8
top_k = 200
controls = False
figure = 'bars'

memory_layers = (23,)
memory_k = 5
memory_method = 2
memory_fraction = 0.0
bookkeeping_fraction = 0.9
softmax_scale = 1000.0
residual_fraction = 0.1
memory_select = 'each'
grid = [{'name': 'plain model', 'condition': ['plain']},
        {'name': 'text in the prompt', 'condition': ['prompt']},
        {'name': 'first token, layer 29, BF 0', 'bookkeeping_fraction': [0.0], 'memory_layers': [(29,)]}]
