"""
The state of a call: what its layers keep of the tokens seen, the memory that it reads, what it looked up.

B batch, T tokens given. A model is shared by its callers, a cache is not: what a call changes is kept here.
"""
import math
import threading
import weakref

import torch
from torch.nn import functional as F

SHARED_FROM_ROWS = 2000  # of the batch together: with fewer a second softmax costs more than it saves
last_calls = threading.local()  # two threads may write with one model, each asks for its own counts


class Cache:
    """
    What the layers keep of the tokens seen, so that a new token costs one row.

    `rows` holds growing tensors (B, ..., size, d).
    `length` is the number of tokens seen before this forward pass, `end` after it.
    `front` {key: rows} that stand before those of the tokens, such as recalled ones; `front_seen` {layer:
    (B, rows) bool} of a layer in which they are not as many for each row of the batch, the rest is padding.
    `shared` {key: (1, ..., P, d)} that stand before those of `rows` in every row of the batch, P rows of its
    front and of its prompt's `shared_length` tokens.
    `offset`: the position of the first token, whose header is in the front.
    `gone`: so many tokens behind that have left the context; `drop_half`: how many leave at once, see `left`.
    `first` (B,): a memory read can change rows of the past, so in each row of the batch the first token that
    is new or changed.
    `readers` {layer: Reader} and `recaller` (method 5) are those of the call's begin, None before.
    `kept` {layer: (queries, keys, values)} of the last call, as they are before a rotation, of `kept_layers`.
    `places`: where compiled layers find all this, see core/compiled.py.
    `counts` are its look-ups; `trace`, for trace=True, a list that gets one record a look-up, else None.
    """

    def __init__(self, size, trace=False, drop_half=False):
        self.size, self.length, self.end = size, 0, 0
        self.drop_half, self.gone = drop_half, 0
        self.rows, self.first, self.readers, self.recaller = {}, None, None, None
        self.kept, self.kept_layers = {}, ()
        self.front, self.front_seen, self.offset = {}, {}, 0
        self.shared, self.shared_length, self.places = {}, 0, None
        self.counts, self.trace = Counts(), [] if trace else None

    def __getstate__(self):  # a copy finds its rows anew
        return {**self.__dict__, 'places': None}

    def empty(self):
        """-> another, for a text that begins anew."""
        return Cache(self.size, drop_half=self.drop_half)

    def left(self, T):
        """How many of a text's first T tokens have left the context: where it is full one a token, as in
        nanoGPT, or half of it at once."""
        over, at_once = max(0, T - self.offset - self.size), max(1, self.size // 2) if self.drop_half else 1
        return -(-over // at_once) * at_once

    @property
    def searches(self):
        """{layer: token-heads looked up} since the last forward pass, or the whole text, began."""
        return self.counts.searches

    @property
    def picks(self):
        """{layer: token-heads picked}, each again at every step."""
        return self.counts.picks

    @property
    def changes_past(self):
        """Whether a layer's reader may change rows of the past."""
        return any(one.changes_past for one in self.readers.values())

    def begin(self, idx):
        """Announces new tokens, idx (B, T)."""
        B, T = idx.shape
        if self.length + T > self.size:
            raise ValueError(f"the cache holds {self.size} tokens, "
                             f"{self.length} + {T} were given: make it larger")
        self.end = self.length + T
        self.first = torch.full((B,), self.length, device=idx.device)

    def append(self, key, x):
        """x (..., n, d), the newest n rows -> (..., front and end, d), all of them but those shared."""
        before = self.before(key)
        if key not in self.rows:
            self.rows[key] = x.new_zeros(*x.shape[:-2], before + self.size, x.size(-1))
            if before > 0:
                self.rows[key].narrow(-2, 0, before).copy_(self.front[key])
        self.rows[key].narrow(-2, before + self.end - x.size(-2), x.size(-2)).copy_(x)
        return self.seen(key)

    def seen(self, key):
        """All rows that were appended under a key, behind those of the front: (..., front and end, d)."""
        return self.rows[key].narrow(-2, 0, self.before(key) + self.end)

    def before(self, key):
        """How many of a key's rows stand before the first token's; below 0 where that is shared."""
        if key in self.shared:
            return -self.shared_length
        return self.front[key].size(-2) if key in self.front else 0

    def before_all(self, layer):
        """Of a layer, which of the front's rows are there for each row of the batch, and the shared rows;
        None for all, and for none."""
        return self.front_seen.get(layer), self.shared.get((layer, 'kv'))

    def share(self, B):
        """As expand, but that on a CPU the one row of layers without a reader is kept, which all rows read.

        Not above a reader that changes rows of the past, in each row of the batch its own, nor where there is
        little to save. After it one token a call follows.
        """
        changed = min((layer for layer, one in self.readers.items() if one.changes_past), default=math.inf)
        seen = {(layer, kind): self.seen((layer, kind)) for layer, kind in self.rows
                if layer < changed and layer not in self.readers}
        lengths = [B * rows.size(-2) for rows in seen.values() if rows.device.type == 'cpu']
        if len(lengths) == len(seen) and min(lengths, default=0) >= SHARED_FROM_ROWS:
            self.shared, self.shared_length = seen, self.length
            self.rows = {key: rows for key, rows in self.rows.items() if key not in seen}
        self.expand(B)

    def expand(self, B):
        """One row's tokens become those of a batch of B; what was looked up counts for each."""
        self.places = None  # which would keep the rows
        # copied, since they then go their own ways
        self.rows = {key: rows.expand(B, *rows.shape[1:]).contiguous() for key, rows in self.rows.items()}
        self.front = {key: rows.expand(B, *rows.shape[1:]) for key, rows in self.front.items()}
        self.front_seen = {layer: seen.expand(B, -1) for layer, seen in self.front_seen.items()}
        self.counts.times(B)

    def restart(self):
        """Forgets the tokens, but neither the memory, nor what was recalled, nor the counts.

        Positions have moved, so nothing kept still holds.
        """
        self.rows, self.length, self.shared, self.places = {}, 0, {}, None


class Counts:
    """Token-heads looked up and picked, {layer: count}; `recalled`, for each row of the batch, see GPT."""

    def __init__(self):
        self.searches, self._picks, self.recalled = {}, {}, []

    @property
    def picks(self):
        return {layer: int(count) for layer, count in self._picks.items()}

    def begin(self, layers):
        self.searches, self._picks = dict.fromkeys(layers, 0), dict.fromkeys(layers, 0)

    def add(self, layer, searches=0, picks=0):
        """picks: a number, or a tensor of one, which is not waited for here."""
        self.searches[layer] += searches
        self._picks[layer] = self._picks[layer] + picks

    def times(self, n):
        for counts in (self.searches, self._picks):
            counts.update({layer: n * count for layer, count in counts.items()})


def counts_of_last_call():
    """{model: Counts} of the calling thread."""
    if not hasattr(last_calls, 'counts'):
        last_calls.counts = weakref.WeakKeyDictionary()  # no model is kept alive by its counts
    return last_calls.counts


def stand_in_front(cache, layer, rows, device):
    """Rows of a layer, (heads, P, hs) of each row of the batch, in front of the tokens of an empty cache."""
    cache.front[layer, 'kv'], seen = padded_in_front(rows)
    if seen is not None:
        cache.front_seen[layer] = seen.to(device)


def padded_in_front(rows):
    """Tensors (heads, P, hs) of each row of a batch -> (B, heads, longest P, hs), and (B, longest P), which
    of them are no padding; None where all are as long."""
    longest = max(part.size(1) for part in rows)
    whole = torch.stack([F.pad(part, (0, 0, longest - part.size(1), 0)) for part in rows])
    if all(part.size(1) == longest for part in rows):
        return whole, None
    missing = torch.tensor([longest - part.size(1) for part in rows])
    return whole, torch.arange(longest) >= missing[:, None]
