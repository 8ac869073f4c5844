# The write-up's headline on recall: method 2, layer 9, bookkeeping token only, TS 1000, on the real GPT-2.
#
# $ python evaluate.py config/writeup/headline_recall.py
#
# Published: 15 of 100 seeds answer right from the question alone, 53 with the text in the prompt, and with
# the memory as many or more, with 5 of 2160 token-heads searched. The paragraph is our own.
from config.sample_gpt2 import *  # noqa: F403, the model, the prompt, the memory and how it is read

measure = 'recall'
answer = ' Vancouver'
opposite_text = open('memories/vancouver.txt').read().replace('Vancouver', 'Toronto')
unrelated_text = 'FILE:memories/cats_praise.txt'
held_out_text = 'FILE:config/writeup/held_out.txt'
num_seeds = 100
max_new_tokens = 10
figure = 'bars'
