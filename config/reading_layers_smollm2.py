# Layers of SmolLM2 that must read a recalled text, as config/find_reading_layers.py found them on 40 made-up
# facts and proved them on 40 fresh ones: 24 of 30, a fifth less to keep. With 0 to 2 taken out too answers
# are half as likely.
# For bare text, and a memory that keeps keys and values, which is built with these layers: in the chat
# template they halve an answer's likelihood, and a memory that keeps tokens gains nothing.
memory_layers = tuple(layer for layer in range(30) if layer not in (12, 13, 14, 24, 25, 26))
