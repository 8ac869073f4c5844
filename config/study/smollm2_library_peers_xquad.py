# What else could answer a question on one of many real paragraphs: BM25's choice in the prompt, and methods
# 1 to 4, which look all texts up at once, as config/study/smollm2_library_peers.py has them on made-up facts.
#
# $ python evaluate.py config/study/smollm2_library_peers_xquad.py --squad_file=dev.json
#
# A question each on forty paragraphs. Methods 1 to 3 are asked of one text, the right one, method 4 of ten at
# most: their tokens look up in all layers, which takes seconds a question, and with all 120 much more.
from config.study.smollm2_library_paragraphs import *  # noqa: F403
from config.study.smollm2_library_peers import grid as _on_made_up_facts

num_facts = 40
num_held_out = 4
max_new_tokens = 20
_chosen, _method_4, *_by_key = _on_made_up_facts
grid = [{**_chosen, 'texts_together': [1, 10, 120]}, {**_method_4, 'texts_together': [1, 10]},
        *({**axes, 'texts_together': [1]} for axes in _by_key)]
