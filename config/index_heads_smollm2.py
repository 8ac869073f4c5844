# Index heads of SmolLM2: of six that config/find_index_heads.py found on made-up facts, before it held a set
# to four key heads, the four that find most of XQuAD's paragraphs. A key head more costs 66 bytes a token.
# Share of questions that find their text by the six: 0.990 (the facts that chose; 200 questions, 400 texts),
#   0.995 (fresh facts), 0.900 (XQuAD's 120 paragraphs, 612 questions); by the four there, as picked, 0.915
init_from = 'smollm2'
chat = True
memory_method = 5
memory_layers = ()
memory_distance = 512
recall_votes = 20
index_heads = ((2, 4), (8, 0), (15, 6), (18, 6))
