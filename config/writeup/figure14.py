# The write-up's Figure 14: how often the plain GPT-2 begins its answer with each token, over 1000 seeds.
#
# $ python evaluate.py config/writeup/figure14.py
#
# What the model finds likely without any memory.
from config.writeup.headline_recall import *  # noqa: F403

condition = 'plain'
controls = False
num_seeds = 1000
max_new_tokens = 1
figure = 'first_tokens'
