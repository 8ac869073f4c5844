# The write-up's Table 4: answers from a memory of Vancouver, and from one in which it is called Toronto, on
# the real GPT-2.
#
# $ python evaluate.py config/writeup/table4.py
#
# The summary shows the five published seeds; the numbers are those of 100.
from config.writeup.headline_recall import *  # noqa: F403

grid = [{'name': 'as it is'}, {'substitute': [' Toronto']}]
max_new_tokens = 50
show_texts = 5
