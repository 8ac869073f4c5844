# Table 3 with SmolLM2: what the bookkeeping token alone finds, in layer 23, the write-up's 9 of 12.
#
# $ python evaluate.py config/writeup/smollm2_table3.py
#
# Asks how many heads give the first token over 0.9 of their attention, and what they find.
from config.writeup.smollm2_table2 import *  # noqa: F403

memory_method = 2
memory_fraction = 0.0
bookkeeping_fraction = 0.9
softmax_scale = 1000.0
