# Index heads of SmolLM2, found by config/find_index_heads.py.
init_from = 'smollm2'
chat = True
memory_method = 5
memory_layers = ()
index_heads = ((2, 4), (8, 0), (15, 6), (17, 3), (17, 5), (18, 7))
recall_votes = 20
