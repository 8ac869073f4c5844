# Figure 4 with SmolLM2: how many token-heads look up in each layer at the 100th token of a text, for several
# MF.
#
# $ python evaluate.py config/writeup/smollm2_figure04.py
#
# Asks which layers attend widely.
from config.writeup.smollm2_figure03 import *  # noqa: F403

measure = 'look_ups'
max_new_tokens = 100
figure = 'shares'
memory_layers = tuple(range(30))
grid = [{'memory_fraction': [1.0, 2.0, 5.0, 10.0]}]
