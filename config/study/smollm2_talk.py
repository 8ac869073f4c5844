# A talk of 200 turns, in which 40 everyday facts are told and asked about 10 to 150 turns later, between
# small talk: what the model still knows with a memory (chat.py), and how long the first token takes.
#
# $ python evaluate.py config/study/smollm2_talk.py --threads=1
#
# Beside it the last exchanges alone; the whole talk in the context, as far as it fits; and the fact in the
# question's own turn, behind the last exchanges or alone. The replies that stand in the talk are the model's
# own, with its memory; a reply is cut after 24 tokens.
from config.index_heads_smollm2 import *  # noqa: F403

measure = 'talk'
figure = 'talk'
num_facts = 40
num_seeds = 1
top_k = 1  # the likeliest answers, not drawn ones
max_new_tokens = 24
recall_votes = 20  # this and the next two as in chat.py
recall_candidates = 5
recall_threshold = 1.5
context_turns = 0  # with two, the model soon writes nothing but its own last reply again
