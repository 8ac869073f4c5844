# Index heads of SmolLM2, as config/find_index_heads.py found them on made-up facts. Share of questions that
# find their text: 0.990 (the facts that chose; 200 questions, 400 texts), 1.000 in the best five;
#   0.95 above threshold, 0.10 without it
# 0.995 (fresh facts; 200 questions, 400 texts), 1.000 in the best five;
#   0.98 above threshold, 0.18 without it
init_from = 'smollm2'
chat = True
memory_method = 5
memory_layers = ()
memory_distance = 512
recall_votes = 20
index_heads = ((18, 7), (8, 0), (17, 5), (2, 4), (15, 6), (18, 6))
