# Table 2 with SmolLM2: what each picked token-head of the prompt finds in layer 23, the write-up's 9 of 12.
#
# $ python evaluate.py config/writeup/smollm2_table2.py
#
# Head, context token, memory rows, squared distances, memory tokens and their ranks (Eq. 5), for BF 0, MF 1,
# TS 1, k 3.
from config.writeup.headline_recall import *  # noqa: F403

init_from = 'smollm2'
measure = 'look_ups'
max_new_tokens = 1
figure = 'look_ups'

memory_layers = (23,)
memory_k = 3
memory_method = 1
memory_fraction = 1.0
bookkeeping_fraction = 0.0
softmax_scale = 1.0
