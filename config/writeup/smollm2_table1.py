# Table 1 with SmolLM2: texts about cats, plain and with a memory of praise, seed by seed.
#
# $ python evaluate.py config/writeup/smollm2_table1.py
#
# The summary shows five seeds; the numbers are those of 100.
from config.writeup.smollm2_headline_sentiment import *  # noqa: F403

grid = []
show_texts = 5
