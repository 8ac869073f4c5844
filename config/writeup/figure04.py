# The write-up's Figure 4: how many token-heads look up in each layer at the 100th token of seed 1337, for
# several MF.
#
# $ python evaluate.py config/writeup/figure04.py
#
# Published: 2 to 10 % at MF 1, 20 to 30 % at MF 5, more in layers 0, 1 and 11.
from config.writeup.figure03 import *  # noqa: F403

measure = 'look_ups'
figure = 'shares'
memory_layers = tuple(range(12))
grid = [{'memory_fraction': [1.0, 2.0, 5.0, 10.0]}]
