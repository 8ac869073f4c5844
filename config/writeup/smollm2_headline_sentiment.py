# The headline on sentiment with SmolLM2: method 3 at the write-up's depth, and where a search found most.
#
# $ python evaluate.py config/writeup/smollm2_headline_sentiment.py
#
# Layers 6 to 8 of 12 are 15 to 22 of 30. 'each' stands for 'last', the write-up's, which
# the last row has.
from config.smollm2_sentiment import *  # noqa: F403

neutral_text = 'FILE:memories/cats_neutral.txt'
seed = 2024  # none of the seeds that the template's settings were chosen on
num_seeds = 100
num_held_out = 6

memory_k = 5
memory_layers = tuple(range(17, 23))  # the controls read there too
grid = [{'memory_layers': [tuple(range(15, 23)), tuple(range(17, 23))]}, {'memory_select': ['last']}]
