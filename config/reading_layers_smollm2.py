# Layers of SmolLM2 that must read a recalled text, as config/find_reading_layers.py found them on 40 made-up
# facts and proved them on 40 fresh ones: 24 of 30, a fifth less to keep. With 0 to 2 taken out too answers
# are half as likely.
# Behind another config: python sample.py config/smollm2_library.py config/reading_layers_smollm2.py; a memory
# that keeps keys and values is built with these layers, one that keeps tokens needs nothing else.
memory_layers = tuple(layer for layer in range(30) if layer not in (12, 13, 14, 24, 25, 26))
