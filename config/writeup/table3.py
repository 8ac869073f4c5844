# The write-up's Table 3: what the bookkeeping token alone finds in layer 9, on the real GPT-2.
#
# $ python evaluate.py config/writeup/table3.py
#
# Published: five heads look up, at an attention of 0.92 to 0.97. BF 0.9, MF 0, TS 1000, k 3.
from config.writeup.table2 import *  # noqa: F403

memory_method = 2
memory_fraction = 0.0
bookkeeping_fraction = 0.9
softmax_scale = 1000.0
