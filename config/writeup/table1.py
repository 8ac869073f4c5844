# The write-up's Table 1: texts about cats, plain and with a memory of praise, seed by seed, on the real
# GPT-2.
#
# $ python evaluate.py config/writeup/table1.py
#
# The summary shows the five published seeds; the numbers are those of 100.
from config.writeup.headline_sentiment import *  # noqa: F403

max_new_tokens = 50
show_texts = 5
