# The write-up's headline on sentiment: method 3, layers 6-8, MF 5, BF 0.9, TS 0.01, RF 0.33, on the real
# GPT-2.
#
# $ python evaluate.py config/writeup/headline_sentiment.py
#
# Published: a median compound of -0.13 plain (IQR 1.6) and of 0.99 with the memory (IQR 0.01). The memory's
# five sentences are our own.
from config.sample_gpt2_type_3_method import *  # noqa: F403, the model, prompt, memory, how it is read

measure = 'sentiment'
opposite_text = 'FILE:memories/cats_blame.txt'
unrelated_text = 'FILE:memories/vancouver.txt'
held_out_text = 'FILE:config/writeup/held_out.txt'
steering_layer = 6
steering_scale = 4.0  # try a few: what a fair baseline needs depends on the model
num_seeds = 100
max_new_tokens = 100
figure = 'boxes'
