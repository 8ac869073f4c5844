# The write-up's Figure 9: layers 9 and 10 by method 1, with MF, TS and k varied under each way to add
# memories, on the real GPT-2.
#
# $ python evaluate.py config/writeup/figure09.py
#
# Published: MF and k level off, and TS starts high and falls to the control. MF 0 is the bookkeeping token
# alone, BF 1 ordinary tokens alone, both together nothing.
from config.writeup.figure08 import *  # noqa: F403

figure = 'lines'
memory_layers = (9, 10)
_ways = {'memory_fraction': [0.0, 1.0], 'bookkeeping_fraction': [0.1, 1.0]}
grid = [{'memory_fraction': [0.0, 0.5, 1.0, 2.0, 5.0], 'bookkeeping_fraction': [0.1, 1.0]},
        {'softmax_scale': [0.01, 1.0, 10.0, 1000.0], **_ways}, {'memory_k': [1, 3, 5, 10], **_ways}]
