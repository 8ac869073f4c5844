"""
What a memory holds, to the disk and back: one memory file, or a library, a folder of them.
"""
import os

import torch

from core import library, memory_file
from core.held import Held
from core.narrow import DTYPES, narrowed
from core.origin import index_key_heads

ROWS_A_SEGMENT = 2**16  # of a library, about: a build that is interrupted loses no more


def is_folder(path):
    """Whether a path names a library: a folder that is there, or a name without an ending."""
    return os.path.isdir(path) or not os.path.splitext(path)[1]


# ---- to the disk ----

def write(path, description, held, replace=True):
    """One memory file of all texts that are not forgotten. Raises OSError."""
    memory_file.write(path, *file_of(description, held, held.live.tolist()), replace)


def append(folder, description, held, numbers):
    """The texts of these numbers to a library, all or none -> (segment, number in it) of each.

    Raises OSError, or ValueError where the library is of another kind.
    """
    new = library.append(folder, (file_of(description, held, some) for some in in_segments(held, numbers)))
    return [(segment.file, number) for segment in new for number in range(segment.texts)]


def in_segments(held, numbers):
    some, rows = [], 0
    for number in numbers:
        some.append(number)
        rows += held.texts[number]['rows']
        if rows >= ROWS_A_SEGMENT:
            yield some
            some, rows = [], 0
    if some:
        yield some


def file_of(description, held, numbers):
    """Tensors and metadata of a memory file of these texts."""
    dtype = DTYPES[description['dtype']]
    tensors = {f'layers.{layer}.{kind}': narrowed(held.of_texts(kind, layer, numbers), dtype).contiguous()
               for kind, layer in held.parts}
    tensors['tokens'] = held.tokens_of(numbers)
    return tensors, {**description, 'texts': [held.texts[number] for number in numbers]}


# ---- and back ----

def read(path, layers, check):
    """A memory file or library -> its description, and what it holds of these layers, () is all, None is
    nothing.

    check: takes the description, before rows are read, which are large, and gives the origin to go by.
    Of a memory with index heads the layers' rows stay on the disk until they are asked for. Raises ValueError
    for what is damaged, FileNotFoundError.
    """
    manifest, files = opened(path)
    try:
        description = {**manifest.shared, 'origin': check(manifest.shared)}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    wanted = layers if description['keep'] == 'values' else ()  # else texts run again
    parts, tokens, texts, forgotten, places = {}, [], [], set(), []
    for segment, (file, metadata) in zip(manifest.segments, files):
        try:
            rows, ids = parts_of(file, metadata, wanted or tuple(description['layers']))
        except ValueError as error:
            raise ValueError(f"{name_of(path, segment)}: {error}") from None
        for key, part in rows.items():
            parts.setdefault(key, []).append(part)
        if segment is not None:
            forgotten |= {len(texts) + number for number in segment.forgotten}
            places += [(segment.file, number) for number in range(segment.texts)]
        texts += metadata['texts']
        tokens.append(ids)
    if not files:
        return description, None
    return description, Held(parts, torch.cat(tokens), texts, frozenset(forgotten), places or None)


def live_texts(path):
    """{number: entry} of all texts that are not forgotten."""
    manifest, files = opened(path)
    texts = ((text, segment is not None and number in segment.forgotten)
             for segment, (_, metadata) in zip(manifest.segments, files)
             for number, text in enumerate(metadata['texts']))
    return {number: text for number, (text, is_forgotten) in enumerate(texts) if not is_forgotten}


def opened(path):
    """-> a library's Manifest and files; a memory file as the one segment of such."""
    if os.path.isdir(path):
        return library.opened(path)
    try:
        file = memory_file.opened(path)
        metadata = memory_file.read_description(file)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return library.Manifest(metadata, (None,)), [(file, metadata)]


def name_of(path, segment):
    return path if segment is None else os.path.join(path, segment.file)


def parts_of(file, metadata, layers):
    """-> {(kind, layer): rows}, and the tokens, of one file."""
    names = {(kind, layer): f'layers.{layer}.{kind}' for layer in layers for kind in ('keys', 'values')}
    if metadata['index_heads']:
        parts, names = {key: memory_file.OnDisk(file, name, metadata) for key, name in names.items()}, {}
    else:
        parts = {}
    index = index_key_heads(metadata['origin'], metadata['index_heads'])
    index = {layer: heads for layer, heads in index.items() if layer not in layers}
    # of a layer that is kept but not asked for, the index heads' keys are among its own
    names |= {('index', layer): f"layers.{layer}.{'keys' if layer in metadata['layers'] else 'index'}"
              for layer in index}
    tensors = memory_file.read_tensors(file, metadata, ['tokens', *names.values()])
    parts |= {key: tensors[name] for key, name in names.items()}
    for layer, heads in index.items():
        if layer in metadata['layers']:
            parts['index', layer] = parts['index', layer][list(heads)]
    return parts, tensors['tokens']


# ---- a library that a memory is of ----

class Home:
    """The library that a memory was loaded from or saved to. forgotten: the numbers of texts that it has
    forgotten."""

    def __init__(self, folder, forgotten=frozenset()):
        self.folder, self.forgotten = os.path.abspath(folder), forgotten

    @classmethod
    def new(cls, folder):
        """Raises FileExistsError where there is a library."""
        if library.is_library(folder):
            raise FileExistsError(f"{folder} holds a memory already: load it and merge, append to it, or "
                                  "name another folder")
        return cls(folder)

    def is_at(self, folder):
        return os.path.abspath(folder) == self.folder or (
            os.path.exists(folder) and os.path.samefile(folder, self.folder))

    def save(self, description, held):
        """What changed since it was loaded or saved -> {number: place} of the texts that are new in it."""
        forgotten = {}
        for number in sorted(held.forgotten - self.forgotten):
            if held.places[number] is not None:
                file, at = held.places[number]
                forgotten.setdefault(file, []).append(at)
        if forgotten:
            library.forget(self.folder, forgotten)
        self.forgotten = held.forgotten
        new = [number for number in held.live.tolist() if held.places[number] is None]
        return dict(zip(new, append(self.folder, description, held, new)))

    def compact(self, layers):
        """-> how many texts are gone for good, and what is held of these layers now, None is nothing."""
        count = library.compact(self.folder)
        _, held = read(self.folder, layers, lambda description: description['origin'])
        self.forgotten = frozenset() if held is None else held.forgotten  # of others meanwhile
        return count, held
