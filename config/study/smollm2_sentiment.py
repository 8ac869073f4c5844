# A memory of praise and an unkind prompt on SmolLM2, with controls: the write-up's Table 1 on a model that it
# never saw.
#
# $ python evaluate.py config/study/smollm2_sentiment.py
#
# Beside the template's settings, as which the controls read too, those of Table 1 (k 5).
from config.smollm2_sentiment import *  # noqa: F403

seed = 2024  # none of the seeds that the template's settings were chosen on
num_held_out = 6
figure = 'boxes'
grid = [{'name': 'the template'},
        {'name': 'k 5', 'memory_k': [5]},
        {'name': 'k 5, layers 18-23', 'memory_k': [5], 'memory_layers': [tuple(range(18, 24))]}]
