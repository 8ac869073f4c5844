# The baseline at its best on SmolLM2: after which layer is a steering vector added, and how strong?
#
# $ python evaluate.py config/study/smollm2_search_steering.py
#
# The 24 seeds that chose the memory's layers (smollm2_search.py); smollm2_sentiment.py measures on others.
from config.smollm2_sentiment import *  # noqa: F403

num_seeds = 24
num_held_out = 2
controls = False
figure = 'lines'
grid = [{'name': 'plain model', 'condition': ['plain']},
        {'name': 'steering vector', 'condition': ['steering'], 'steering_scale': [1.0, 2.0, 3.0, 4.0],
         'steering_layer': [12, 15, 18, 21]}]
