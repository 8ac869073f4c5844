# Figure 14 with SmolLM2: how often the plain model begins its answer with each token, over 1000 seeds.
#
# $ python evaluate.py config/writeup/smollm2_figure14.py
#
# The write-up's own question. What the model finds likely without any memory.
from config.writeup.figure14 import *  # noqa: F403

init_from = 'smollm2'
memory_layers = (23,)
