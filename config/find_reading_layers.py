# Which layers must read a recalled text? Fewer make a cheaper memory, where it keeps keys and values.
#
# $ python evaluate.py config/find_reading_layers.py
#
# Expect: minutes on two cores (fewer of num_facts are faster). out/find_reading_layers/best.py is a config
# for sample.py, figure.png shows which layers stopped first and what that cost. Sentences to complete, each
# with the text that says how. Of another model, --init_from=NAME, give --index_heads too, as
# config/find_index_heads.py found them.
from config.index_heads_smollm2 import *  # noqa: F403

find = 'reading_layers'
measure = 'library'
chat = False
num_facts = 40
