"""
What a memory holds at one time, by kind ('keys', 'values', 'index') and layer; and what finds its rows.

nh key heads, hs head size, M stored rows.
"""
import itertools
import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import torch

from core.index import Index, Table


class Layer(NamedTuple):
    """One layer's rows, as they are when they are asked for: what is added later makes another Layer."""
    keys: Index
    values: Table
    lengths: tuple  # of the texts, in rows


class Held:
    """Never changes, adding makes another: who reads this one sees it whole.

    parts {(kind, layer): [(nh, n, hs), ...]}, part after part the rows of all texts; tokens (M,) int64;
    texts: an entry a text, in the order of the rows.
    """

    def __init__(self, parts, tokens, texts):
        self.parts, self.tokens, self.texts = parts, tokens, texts
        self._layers, self._ends = {}, None  # made when first asked for, never the truth

    def with_texts(self, new, tokens, texts):
        """new {(kind, layer): (nh, n, hs)} of every kind and layer held -> Held."""
        parts = {key: [*some, new[key]] for key, some in self.parts.items()}
        return Held(parts, torch.cat((self.tokens, tokens)), [*self.texts, *texts])

    @torch.inference_mode(False)  # what is kept outlasts the call that first asked for it
    def part(self, kind, layer):
        """(nh, M, hs), of what was added part by part."""
        some = self.parts[kind, layer]
        if len(some) > 1:  # joined once, when first asked for, and not at every text that is added
            some = self.parts[kind, layer] = [torch.cat(some, dim=1)]
        return some[0].contiguous()

    def rows(self, kind, layer, number):
        """(nh, n, hs) of one text, without joining what was added part by part."""
        end, length = int(self.ends[number]), self.texts[number]['rows']
        first = end - length
        for part in self.parts[kind, layer]:  # a text lies in one part
            if first < part.size(1):
                return part[:, first:first + length]
            first -= part.size(1)
        return self.parts[kind, layer][0][:, :0]  # a text without rows

    @torch.inference_mode(False)
    def index(self, layer, heads, from_keys):
        """The keys of some heads -> {head: (M, hs) float32}, each dense, as a product reads it fastest."""
        if ('index', layer) not in self._layers:
            rows = self.part('keys', layer)[list(heads)] if from_keys else self.part('index', layer)
            self._layers['index', layer] = {head: own.float().contiguous() for head, own in zip(heads, rows)}
        return self._layers['index', layer]

    @property
    def ends(self):
        """(texts,), the row behind each text's last."""
        if self._ends is None:
            self._ends = np.fromiter(itertools.accumulate(text['rows'] for text in self.texts), np.int64)
        return self._ends

    def layer(self, layer):
        if layer not in self._layers:
            self._layers[layer] = Layer(Index(self.part('keys', layer)), Table(self.part('values', layer)),
                                        tuple(text['rows'] for text in self.texts))
        return self._layers[layer]


class Recent:
    """What was made lately, the least recently used forgotten first. Any thread may ask."""

    def __init__(self, bytes_kept=2**28):
        self.bytes_kept, self._made, self._lock = bytes_kept, OrderedDict(), threading.Lock()

    def __reduce__(self):  # a copy begins anew
        return Recent, (self.bytes_kept,)

    def get(self, key, make):
        """-> {layer: tensors}, by `make()` where it is not kept."""
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = make()  # outside: two threads that ask at once both make it, and neither waits
        with self._lock:
            self._made[key] = made
            while len(self._made) > 1 and sum(map(bytes_of, self._made.values())) > self.bytes_kept:
                self._made.popitem(last=False)
        return made


def bytes_of(rows):
    return sum(part.nbytes for parts in rows.values() for part in parts)
