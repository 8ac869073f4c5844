# The baseline at its best: a steering vector after each layer, at several strengths.
#
# $ python evaluate.py config/study/steering.py
#
# The controls of the other experiments take the one that turns the text at the least damage.
from config.writeup.tinyworld_headline_sentiment import *  # noqa: F403

figure = 'lines'
grid = [{'steering_scale': [3.0, 4.0, 5.0, 6.0, 8.0], 'steering_layer': [0, 1, 2, 3, 4, 5],
         'condition': ['steering']}]
