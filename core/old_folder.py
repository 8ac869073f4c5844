"""
Memories of the original project, read-only: keyStore/<layer>/<head>.pt and valueStore/<layer>/<head>.pt,
each (1 + M, hs), the first row minus infinity. Its FAISS files are ignored, its text (one .txt, if there)
names the tokens.
"""
import os
import pathlib

import torch

from core.model_files import check_file
from core.texts import read_file

STORES = {'keys': 'keyStore', 'values': 'valueStore'}


def read(folder, n_head, head_size):
    """-> {layer: (keys, values)}, each (nh, M, hs) float32. Raises OSError kinds, ValueError."""
    layers = numbered(os.path.join(folder, STORES['keys']))
    if not layers:
        raise FileNotFoundError(f"{folder!r} is a folder without keyStore/<layer>/<head>.pt: name a memory "
                                "file, or a folder that the original project wrote")
    rows = {layer: tuple(old_store(folder, kind, layer, n_head, head_size) for kind in STORES)
            for layer in layers}
    counts = {part.size(1) for parts in rows.values() for part in parts}
    if len(counts) > 1:
        raise ValueError(f"the stores in {folder!r} hold different numbers of tokens, {sorted(counts)}: "
                         "the folder is damaged")
    return rows


def read_text(folder):
    """Of its first .txt, '' where there is none. Raises ValueError for one that is not UTF-8."""
    first = sorted(pathlib.Path(folder).glob('*.txt'))[:1]
    return ''.join(read_file(str(path)) for path in first)


def numbered(folder):
    """The numbers that name the folder's entries, sorted; files may end in .pt."""
    if not os.path.isdir(folder):
        return []
    names = [name.removesuffix('.pt') for name in os.listdir(folder)]
    return sorted(int(name) for name in names if name.isdigit())


def old_store(folder, kind, layer, n_head, head_size):
    """One layer of an old folder -> (nh, M, hs) float32, the first row left out."""
    place = os.path.join(folder, STORES[kind], str(layer))
    if numbered(place) != list(range(n_head)):
        raise ValueError(f"{place} holds the heads {numbered(place)}, the model has 0 to {n_head - 1}: "
                         "another model wrote it, or files are missing")
    heads = [old_head(os.path.join(place, f'{head}.pt')) for head in range(n_head)]
    shapes = [tuple(head.shape) for head in heads]
    if len(set(shapes)) > 1 or heads[0].size(1) != head_size:
        raise ValueError(f"{place} holds heads of {shapes[:3]}, expected (tokens, {head_size}) in each: "
                         "another model wrote it, or it is damaged")
    return torch.stack(heads)


def old_head(path):
    """(1 + M, hs) in a file -> (M, hs) float32. The first row is the original's mark of an empty store."""
    check_file(path)
    try:
        rows = torch.load(path, map_location='cpu', weights_only=True).float()
        rows = rows.reshape(-1, rows.shape[-1])[1:]
    except OSError:
        raise
    except Exception as error:  # damaged files raise many types
        raise ValueError(f"{path} is damaged or no tensor ({type(error).__name__}): "
                         "copy the folder again") from None
    if not torch.isfinite(rows).all():
        raise ValueError(f"{path} holds numbers that are not finite below its first row: "
                         "the folder is damaged")
    return rows


def old_tokens(text, tokenizer, rows):
    """The text's tokens where they are as many as the rows, else -1 for each row."""
    ids = tokenizer.encode(text) if text and tokenizer else []
    return torch.tensor(ids if len(ids) == rows else [-1] * rows, dtype=torch.int64)
