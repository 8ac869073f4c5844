"""What model.py, reader.py and memory.py stand on. Imports nothing of this repository but itself."""
