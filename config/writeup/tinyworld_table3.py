# Table 3 with the embedded model: what the bookkeeping token alone finds, in all layers.
#
# $ python evaluate.py config/writeup/tinyworld_table3.py
#
# In this model the first token takes little of the attention in most heads: few exceed BF 0.9, so 0.5 is
# shown as well.
from config.writeup.tinyworld_table2 import *  # noqa: F403

grid = [{'bookkeeping_fraction': [0.5, 0.9]}]
memory_layers = (0, 1, 2, 3, 4, 5)
memory_method = 2
memory_fraction = 0.0
softmax_scale = 1000.0
