"""
Texts as settings name them.
"""
import os


def read_text(text):
    """A text, or the contents of the file named in 'FILE:path'. Raises FileNotFoundError, ValueError."""
    if not text.startswith('FILE:'):
        if os.path.isfile(text):
            raise ValueError(f"{text!r} names a file: write FILE:{text} to read the text from it")
        return text
    path = text[len('FILE:'):]
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no file {path!r}: 'FILE:path' reads a text from a file")
    try:
        with open(path, encoding='utf-8') as f:
            return f.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error.reason} at byte {error.start})") from None
