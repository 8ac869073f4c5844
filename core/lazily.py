"""
A model's tensors, read when they are asked for: of a file that is as large as the memory, a part at a time.
"""
import functools
import os
from collections.abc import Mapping

import torch

from core.checks import in_float32


class Lazily(Mapping):
    """{name: tensor, or OnFile}, made anew at each look by the functions given, {name: function}."""

    def __init__(self, makers):
        self.makers = makers

    def __getitem__(self, name):
        return self.makers[name]()

    def __iter__(self):
        return iter(self.makers)

    def __len__(self):
        return len(self.makers)


class OnFile:
    """What stands for a tensor: its shape, and slices of its rows; read(slice) gives those of one."""

    def __init__(self, shape, read):
        self.shape, self.read = tuple(shape), read

    def __getitem__(self, rows):
        return self.read(slice(*rows.indices(self.shape[0])[:2]))


def stamp(path):
    """What tells a file from another in its place, or from itself when it was written to. Raises OSError."""
    of = os.stat(path)
    return of.st_ino, of.st_mtime_ns, of.st_size


def check_unchanged(path, before):
    """Raises ValueError where a file is no longer that of this stamp: half of it would be another's."""
    if not os.path.exists(path) or stamp(path) != before:
        raise ValueError(f"{path} was changed while it was read: load it again")


def made_of(shape, make):
    """An OnFile of what has to be whole, which is made once, when its first rows are read."""
    whole = functools.cache(make)
    return OnFile(shape, lambda rows: whole()[rows])


def float32_on_file(w, name, source):
    """A tensor or OnFile -> OnFile in float32; see in_float32 for what is refused when it is read."""
    return OnFile(w.shape, lambda rows: in_float32(w[rows], name, source))


def checked_against(w, other, error):
    """An embedding, and what a file holds beside it as the head that is tied to it -> w, which raises a
    ValueError of this text when rows are read that differ."""
    def read(rows):
        found = w[rows]
        if w.shape != other.shape or not torch.equal(other[rows], found):
            raise ValueError(error)
        return found
    return OnFile(w.shape, read)
