# The write-up's Table 2: what each picked token-head of the prompt finds in layer 9, on the real GPT-2.
#
# $ python evaluate.py config/writeup/table2.py
#
# Head, context token, memory rows, squared distances, memory tokens and their ranks (Eq. 5), for BF 0, MF 1,
# TS 1, k 3.
from config.writeup.headline_recall import *  # noqa: F403

measure = 'look_ups'
max_new_tokens = 1
figure = 'look_ups'

memory_k = 3
memory_method = 1
memory_fraction = 1.0
bookkeeping_fraction = 0.0
softmax_scale = 1.0
