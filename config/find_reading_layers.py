# Which layers must read a recalled text? Fewer make a memory cheaper that keeps keys and values.
#
# $ python evaluate.py config/find_reading_layers.py
# $ python evaluate.py out/find_index_heads/best.py config/find_reading_layers.py --init_from=gpt2
#
# Expect: minutes on two cores (fewer of num_facts are faster). out/find_reading_layers/best.py is a config
# for sample.py, figure.png shows which layers stopped first and what that cost. Sentences to complete, after
# the text that says how. Of another model give the index heads that were found first, as above.
from config.index_heads_smollm2 import *  # noqa: F403

find = 'reading_layers'
measure = 'library'
chat = False
num_facts = 40
