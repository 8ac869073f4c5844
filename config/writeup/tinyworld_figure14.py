# Figure 14 with the embedded model: how often the plain model begins its answer with each token, over 1000
# seeds.
#
# $ python evaluate.py config/writeup/tinyworld_figure14.py
#
# What the model finds likely without any memory.
from config.writeup.tinyworld_headline_recall import *  # noqa: F403

grid = []
condition = 'plain'
controls = False
num_seeds = 1000
max_new_tokens = 1
figure = 'first_tokens'
