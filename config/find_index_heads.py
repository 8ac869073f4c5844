# Which heads know which text is meant? Finds a model's index heads, for memories of many texts.
#
# $ python evaluate.py config/find_index_heads.py
# $ python evaluate.py config/find_index_heads.py --init_from=gpt2 --chat=False
#
# Expect: minutes on two cores (fewer of texts_together and num_facts are faster). A file in SQuAD's format,
# --squad_file=dev.json, proves the heads on real paragraphs too.
# out/find_index_heads/best.py is a config for sample.py, figure.png the map of all heads. Made-up facts
# choose; facts of another world, whose names, forms and relations the search has not seen, prove the choice.
init_from = 'smollm2'
find = 'index_heads'
measure = 'library'
chat = True
texts_together = 400
num_facts = 200
recall_votes = 20
