"""
Texts as settings name them: as they stand, from a file ('FILE:path'), or from many ('FILE:pattern').
"""
import glob
import os
import sys

from core.places import found, own_place

ENDINGS = '.txt', '.md'  # of the files in a folder that are texts


def read_text(text):
    """A text, or the contents of the file named in 'FILE:path'. Raises FileNotFoundError, ValueError."""
    if text[:5].upper() == 'FILE:' and not text.startswith('FILE:'):
        raise ValueError(f"{text[:60]!r} names no file: write FILE:{text[5:65]}, in capitals")
    if not text.startswith('FILE:'):
        if os.path.isfile(text):
            raise ValueError(f"{text!r} names a file: write FILE:{text} to read the text from it")
        return text
    path = found(text[len('FILE:'):])
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder: name a file in it, or, where several will do "
                                f"(--text of build_memory.py), write FILE:{os.path.join(path, '*.txt')}")
    if glob.has_magic(path) and not os.path.exists(path):
        raise FileNotFoundError(f"no file {path!r}: name one file, or, where several will do (--text of "
                                "build_memory.py), a pattern that some are met by")
    return read_file(path)


def read_file(path):
    """A text file's contents in UTF-8, without a byte order mark and with "\\n" at the ends of lines."""
    try:
        with open(path, 'rb') as f:
            data = f.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path!r}: 'FILE:path' reads a text from a file") from None
    try:
        # only what Windows writes at the ends of its lines; any other separator is a character of the text
        return data.decode('utf-8-sig').replace('\r\n', '\n')
    except UnicodeDecodeError as error:
        is_utf16 = data.startswith((b'\xff\xfe', b'\xfe\xff'))
        reason = 'it looks like UTF-16' if is_utf16 else f"{error.reason} at byte {error.start}"
        raise ValueError(f"{path} is not text in UTF-8 ({reason}): save it as UTF-8") from None


def read_texts(text):
    """-> [(source, text)], of 'FILE:pattern' or 'FILE:folder' one a file, in the order of their names; the
    source of a text as it stands is ''.

    A pattern passes over folders, ** goes into them; of a folder all .txt and .md are meant, also those in
    folders within. An empty file of several is left out with a line on stderr.
    """
    paths = matches(text[len('FILE:'):]) if text.startswith('FILE:') else []
    if not paths:
        return [(text if text.startswith('FILE:') else '', read_text(text))]
    texts = [(f'FILE:{path}', read_file(path)) for path in paths]
    for source, one in texts:
        if not one.strip():
            print(f"{source} is empty: it is left out", file=sys.stderr)
    return [(source, one) for source, one in texts if one.strip()]


def matches(pattern):
    """The files that a pattern meets or a folder holds, sorted: the user's, or where there are none those
    that the repository brings along. Raises FileNotFoundError for a folder without texts."""
    pattern = os.path.expanduser(pattern)
    if os.path.isdir(found(pattern)):
        return texts_in(found(pattern))
    if os.path.lexists(pattern) or not glob.has_magic(pattern):
        return []  # one file is named, be it with a bracket in its name
    for place in pattern, own_place(pattern):
        files = [path for path in sorted(glob.glob(place, recursive=True)) if os.path.isfile(path)]
        if files:
            return files
    return []


def texts_in(folder):
    inside = sorted(glob.glob(os.path.join(glob.escape(folder), '**', '*'), recursive=True))
    files = [path for path in inside if path.endswith(ENDINGS) and os.path.isfile(path)]
    if not files:
        raise FileNotFoundError(f"the folder {folder!r} holds no {' or '.join(ENDINGS)}: name files by a "
                                f"pattern, FILE:{os.path.join(folder, '*')}")
    return files


def lines_of(text):
    """The lines of a text that hold anything. A line ends at a line feed alone: str.splitlines would also
    end one at characters that stand within sentences, such as U+2028 or a form feed."""
    return [line for line in text.replace('\r\n', '\n').split('\n') if line.strip()]


def in_front(text, prompt):
    """A remembered text as a part of the prompt, in front of it."""
    return f"\n{text}\n{prompt.removeprefix(chr(10))}"
