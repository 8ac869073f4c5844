"""
What a memory holds at one time, by kind ('keys', 'values', 'index') and layer; and what finds its rows.

nh key heads, hs head size, M stored rows.
"""
import functools
import itertools
import sys
import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import torch

from core.approximate import Approximate
from core.index import Index, Table
from core.narrow import IndexRows, of_dtype


class Layer(NamedTuple):
    """One layer's rows, as they are when they are asked for: what is added later makes another Layer."""
    keys: Index
    values: Table
    lengths: tuple  # of the texts, in rows


class Held:
    """Never changes, adding makes another: who reads this one sees it whole.

    parts {(kind, layer): [(nh, n, hs), ...]}, part after part the rows of all texts; tokens (M,) int64;
    texts: an entry a text, in the order of the rows; forgotten: numbers of texts that nothing recalls;
    places: of each text (segment, number in it), where a library holds it, else None.
    """

    def __init__(self, parts, tokens, texts, forgotten=frozenset(), places=None):
        self.parts, self.tokens, self.texts = parts, tokens, texts
        self._layers = {}  # made when first asked for, never the truth
        self.forgotten, self.places = forgotten, [None] * len(texts) if places is None else places

    def with_texts(self, new, tokens, texts, places=None):
        """new {(kind, layer): (nh, n, hs)} of every kind and layer held -> Held."""
        parts = {key: filled([*some, new[key]]) for key, some in self.parts.items()}
        places = [*self.places, *(places or [None] * len(texts))]
        return self.still_found(Held(parts, torch.cat((self.tokens, tokens)), [*self.texts, *texts],
                                     self.forgotten, places), ('approximate',))

    def with_held(self, other, dtype):
        """Behind this one's texts those of another of the same kinds and layers, read no sooner -> Held.

        dtype: of this one's index rows.
        """
        parts = {key: filled(some + [of_dtype({key: part}, dtype)[key] for part in other.parts[key]])
                 for key, some in self.parts.items()}
        forgotten = self.forgotten | {len(self.texts) + number for number in other.forgotten}
        return self.still_found(Held(parts, torch.cat((self.tokens, other.tokens)),
                                     [*self.texts, *other.texts], forgotten,
                                     [*self.places, *[None] * len(other.texts)]), ('approximate',))

    def without(self, numbers):
        """These texts forgotten too -> Held. The numbers of the others stay. Raises ValueError."""
        gone = sorted({*numbers} - {*self.live.tolist()})
        if gone:
            raise ValueError(f"text {gone[0]} does not exist or is forgotten: the texts are 0 to "
                             f"{len(self.texts) - 1}" if self.texts else
                             f"text {gone[0]} does not exist: there are no texts")
        return self.still_found(Held(self.parts, self.tokens, self.texts, self.forgotten | {*numbers},
                                     self.places))

    def of_source(self, source):
        """The numbers of a source's texts that are not forgotten. Raises ValueError where there are none."""
        names = {source, f'FILE:{source}'}
        numbers = [number for number in self.live.tolist() if self.texts[number]['source'] in names]
        if not numbers:
            raise ValueError(f"no text is from {source!r}: give the source of a text, or its number")
        return numbers

    def at(self, places):
        """{number: (segment, number in it)} of texts that a library holds by now -> Held."""
        now = [places.get(number, place) for number, place in enumerate(self.places)]
        return self.still_found(Held(self.parts, self.tokens, self.texts, self.forgotten, now))

    def still_found(self, other, kinds=('index', 'approximate')):
        """-> other, of the same rows, whatever is forgotten, and perhaps more: what finds these need not be
        made again."""
        made = dict(self._layers)  # another thread may add to it meanwhile
        other._layers = {key: one for key, one in made.items() if isinstance(key, tuple) and key[0] in kinds}
        return other

    def compact(self):
        """No longer with what is forgotten -> Held. The numbers of texts change."""
        numbers = self.live.tolist()
        parts = {key: [self.of_texts(*key, numbers)] for key in self.parts}
        return Held(parts, self.tokens_of(numbers), [self.texts[number] for number in numbers])

    @torch.inference_mode(False)  # what is kept outlasts the call that first asked for it
    def part(self, kind, layer):
        """(nh, M, hs), of what was added part by part."""
        some = self.parts[kind, layer]
        # joined once, when first asked for, and not at every text that is added
        if len(some) > 1 or not isinstance(some[0], torch.Tensor):
            some = self.parts[kind, layer] = [torch.cat([part[:, :] for part in some], dim=1)]
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

    def of_texts(self, kind, layer, numbers):
        """(nh, n, hs) of texts of these numbers, rising, read from where they lie."""
        found = [part[:, max(0, first):min(end, part.size(1))] for begin, stop in self.spans(numbers)
                 for part, first, end in parts_within(self.parts[kind, layer], begin, stop)]
        return torch.cat([self.parts[kind, layer][0][:, :0], *found], dim=1) if len(found) != 1 else found[0]

    def tokens_of(self, numbers):
        return torch.cat([self.tokens[:0], *(self.tokens[first:end] for first, end in self.spans(numbers))])

    def spans(self, numbers):
        """-> (first, end) in rows, of each run of texts that follow each other."""
        ends, spans = [0, *self.ends.tolist()], []
        for number in numbers:
            if spans and spans[-1][1] == ends[number]:
                spans[-1] = spans[-1][0], ends[number + 1]
            else:
                spans.append((ends[number], ends[number + 1]))
        return spans

    @torch.inference_mode(False)
    def index(self, layer, heads, from_keys):
        """The keys of some heads -> {head: IndexRows of M}, as narrow as they are stored."""
        if ('index', layer) not in self._layers:
            rows = self.part('keys', layer)[list(heads)] if from_keys else self.part('index', layer)
            self._layers['index', layer] = dict(zip(heads, map(IndexRows.of, rows)))
        return self._layers['index', layer]

    @torch.inference_mode(False)
    def approximate(self, layer, head, factory, rows):
        """An approximate index of a head's rows, an IndexRows: made once, and again when many were added."""
        key = 'approximate', layer, head, factory
        if key not in self._layers or self._layers[key].misses_many_of(rows):
            self._layers[key] = found = Approximate(rows.float(), factory)
            print(f"index {factory} of layer {layer}, key head {head}: finds {found.recall:.3f} of the ten "
                  "rows nearest to stored ones", file=sys.stderr)
        return self._layers[key]

    @torch.inference_mode(False)
    def sample(self, layer, head, rows, count):
        """Of a head's rows, an IndexRows, those of `count` texts drawn at random, always the same, in float32
        -> IndexRows, rows a text. Kept."""
        key, texts = ('sample', layer, head, count), len(self.live)
        if key not in self._layers:
            drawn = torch.randperm(texts, generator=torch.Generator().manual_seed(0))[:count]
            numbers = self.live[drawn.sort().values]
            self._layers[key] = IndexRows(rows[self.ids_of(numbers)].float()), self.lengths[numbers]
        return self._layers[key]

    def ids_of(self, numbers):
        """The rows of texts of these numbers (n,), one text's after the other's, int64."""
        lengths = self.lengths[numbers]
        before = torch.from_numpy(self.ends)[numbers] - lengths.cumsum(0)
        return before.repeat_interleave(lengths) + torch.arange(int(lengths.sum()))

    # of thousands of texts, and asked for at each vote of each head: made once
    @functools.cached_property
    @torch.inference_mode(False)
    def lengths(self):
        """(texts,) int64, the rows of each."""
        return torch.from_numpy(np.diff(self.ends, prepend=0))

    @property
    def live_tokens(self):
        return self.tokens_of(self.live.tolist()) if self.forgotten else self.tokens

    @property
    def live_texts(self):
        """The entries of those that are not forgotten."""
        return [self.texts[number] for number in self.live.tolist()]

    @functools.cached_property
    @torch.inference_mode(False)
    def live(self):
        """Numbers of the texts that are not forgotten, int64, rising."""
        return torch.tensor([n for n in range(len(self.texts)) if n not in self.forgotten], dtype=torch.int64)

    @functools.cached_property
    def ends(self):
        """(texts,), the row behind each text's last."""
        return np.fromiter(itertools.accumulate(text['rows'] for text in self.texts), np.int64)

    @property
    def nbytes(self):
        """Of its rows and tokens."""
        return self.tokens.nbytes + sum(part.nbytes for some in self.parts.values() for part in some)

    def text_of(self, row):
        """The entry of the text that a row belongs to, of those that are not forgotten."""
        live = self.live
        return self.texts[live[torch.searchsorted(self.lengths[live].cumsum(0), row, right=True)]]

    def layer(self, layer):
        if layer not in self._layers:
            live = self.live.tolist()
            keys, values = (self.of_texts(kind, layer, live) if self.forgotten else self.part(kind, layer)
                            for kind in ('keys', 'values'))
            self._layers[layer] = Layer(Index(keys.float()), Table(values.float()),
                                        tuple(self.texts[number]['rows'] for number in live))
        return self._layers[layer]


def filled(parts):
    """Without those that hold nothing, whose rows may be of another kind."""
    return [part for part in parts if part.size(1)] or parts[-1:]


def parts_within(parts, first, end):
    """Of rows [first, end) in parts that follow each other -> each part that holds some, and where in it."""
    for part in parts:
        if first < part.size(1) and end > 0:
            yield part, first, end
        first, end = first - part.size(1), end - part.size(1)


class Recent:
    """What was made lately, the least recently used forgotten first. Any thread may ask."""

    def __init__(self, bytes_kept=2**28):
        self.bytes_kept, self._made, self._lock = bytes_kept, OrderedDict(), threading.Lock()

    def __reduce__(self):  # a copy begins anew
        return Recent, (self.bytes_kept,)

    def get(self, keys, make):
        """-> {key: {layer: tensors}}, those that are not kept by make([key, ...]), in their order."""
        with self._lock:
            found = {key: self._made[key] for key in keys if key in self._made}
            for key in found:
                self._made.move_to_end(key)
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        # outside: two threads that ask at once both make it, and neither waits
        made = dict(zip(missing, make(missing))) if missing else {}
        with self._lock:
            self._made.update(made)
            while len(self._made) > 1 and sum(map(bytes_of, self._made.values())) > self.bytes_kept:
                self._made.popitem(last=False)
        return found | made


def bytes_of(rows):
    return sum(part.nbytes for parts in rows.values() for part in parts)
