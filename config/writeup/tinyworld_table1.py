# Table 1 with the embedded model: texts about cats, plain and with a memory of praise, seed by seed.
#
# $ python evaluate.py config/writeup/tinyworld_table1.py
#
# The summary shows the five published seeds; the numbers are those of 100.
from config.writeup.tinyworld_headline_sentiment import *  # noqa: F403

show_texts = 5
