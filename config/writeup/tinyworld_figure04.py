# Figure 4 with the embedded model: how many token-heads look up in each layer at the 100th token of seed
# 1337, for several MF.
#
# $ python evaluate.py config/writeup/tinyworld_figure04.py
#
# Asks which layers attend widely.
from config.writeup.tinyworld_figure03 import *  # noqa: F403

measure = 'look_ups'
max_new_tokens = 100
figure = 'shares'
memory_layers = (0, 1, 2, 3, 4, 5)
grid = [{'memory_fraction': [1.0, 2.0, 5.0, 10.0]}]
