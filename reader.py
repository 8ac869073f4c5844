"""
The method: what an attention layer that reads a memory does. Letters as in model.py; N look-ups.

Equations are those of the write-up, "Towards Integrating Medium-Term Memory into Transformer Models" (2024).
Methods 1 to 3 pick token-heads (Eq. 4), find a value for each among the stored (Eq. 5), and put it in the
place of the token's own. Method 4 is extended.py's, 5 recall.py's.
"""
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional as F

from core import compiled
from core.checks import (
    check_choice,
    check_indices,
    check_range,
    pairs_of_heads,
    whole_number,
    whole_numbers,
)

# of a long prompt that a reading layer attends with at once: keeps (B, nh, rows, S) in a CPU's cache
ROWS_A_BLOCK = 128
# fields of Reading, and what scripts call them
SETTINGS = {'layers': 'memory_layers', 'heads': 'memory_heads', 'k': 'memory_k', 'method': 'memory_method',
            'memory_fraction': 'memory_fraction', 'bookkeeping_fraction': 'bookkeeping_fraction',
            'softmax_scale': 'softmax_scale', 'residual_fraction': 'residual_fraction',
            'select': 'memory_select', 'positions': 'memory_positions', 'distance': 'memory_distance',
            **{name: name for name in ('index_heads', 'recall_texts', 'recall_votes', 'recall_threshold',
                                       'recall_every', 'recall_candidates', 'recall_neighbours')},
            'index': 'memory_index'}
POSITIONS = '', 'far', 'own', 'insert'
LARGEST_SCALE = 1e6  # takes the best alone; beyond, float32 would overflow


@dataclass(frozen=True)
class Reading:
    """
    How a memory is read: the settings of all layers that read it, made once and passed whole.

    layers, heads: 0-based; heads () is all. k: neighbours a look-up.
    method: 1, 2, 3 (the write-up), 4 (extended attention) or 5 (recall of whole texts, see recall.py).
    memory_fraction: MF >= 0. bookkeeping_fraction: BF in [0, 1].
    softmax_scale: TS in [0, 1e6]. residual_fraction: RF in [0, 1].
    select: 'last', the newest row picks for all rows, or 'each', every row for itself.
    positions: where method 4 sees stored keys of a rotary model: 'far', `distance` tokens before the query,
    whatever their place in their text ('' is this one for method 4); 'own', where they were written;
    'insert', as if the text stood between the prompt's header, as long as the memory's, and the rest
    ('' is this one for method 5).
    Of method 5 alone, where layers () is all: index_heads, ((layer, query head), ...) that vote;
    recall_texts > 0, how many of the best texts are read; recall_votes > 1, how many texts a token and head
    can vote for, the weakest with nothing, of a large memory a fiftieth of all; where texts are fewer and
    there is no index, those that score above the header, if it has two tokens or more; recall_threshold,
    the evidence below which nothing is recalled, 0 always recalls: by how much the best text makes the
    question likelier, in nats per token, without what stands between header and question, and twice its
    lead in votes, in attention scores per token and head, which of so few texts counts no more than that;
    recall_every, tokens after which it is recalled anew, 0 is never; index, '' for an exact vote, or
    FAISS's factory string for one on the texts that an approximate index names; recall_candidates > 0:
    where none leads clearly, so many of the best are read, and those recalled that make the question
    likeliest; recall_neighbours: a window of a longer text is read with so many windows before and after
    it, all that fit, joined to one text that runs through the model once more.
    Raises ValueError that names what does not fit.
    """
    layers: tuple = (9,)
    heads: tuple = ()
    k: int = 5
    method: int = 2
    memory_fraction: float = 0.0
    bookkeeping_fraction: float = 0.9
    softmax_scale: float = 1000.0
    residual_fraction: float = 0.1
    select: str = 'last'
    positions: str = ''
    distance: int = 512
    index_heads: tuple = ()
    recall_texts: int = 1
    recall_votes: int = 40
    recall_threshold: float = 0.0
    recall_every: int = 0
    index: str = ''
    recall_candidates: int = 1
    recall_neighbours: int = 0

    def __post_init__(self):
        # frozen, so set this way: a list or numpy's numbers become a tuple of int
        for kind in ('layers', 'heads'):
            object.__setattr__(self, kind, whole_numbers(kind, getattr(self, kind)))
        for name, lowest in (('k', 1), ('recall_texts', 1), ('recall_votes', 2), ('recall_every', 0),
                             ('recall_candidates', 1), ('recall_neighbours', 0)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a whole number from {lowest} on")
        check_choice('method', self.method, (1, 2, 3, 4, 5))
        if not self.layers and self.method != 5:
            raise ValueError("layers is (), expected at least one layer that reads")
        if not self.index_heads and self.method == 5:
            raise ValueError("index_heads is (), method 5 needs the heads that find a text: name them, e.g. "
                             "((17, 3),), or find them with config/find_index_heads.py")
        check_range('recall_threshold', self.recall_threshold, 1e6)
        check_choice('select', self.select, ('last', 'each'))
        check_choice('positions', self.positions, POSITIONS)
        object.__setattr__(self, 'distance', whole_number('distance', self.distance))
        check_range('memory_fraction', self.memory_fraction, 1e6)
        check_range('bookkeeping_fraction', self.bookkeeping_fraction, 1)
        check_range('softmax_scale', self.softmax_scale, LARGEST_SCALE)
        check_range('residual_fraction', self.residual_fraction, 1)

    @classmethod
    def of(cls, settings):
        """From a script's settings, {name: value}."""
        return cls(**{field: settings[name] for field, name in SETTINGS.items()})

    def check_model(self, n_layer, n_head, is_rotary):
        """Raises ValueError for a layer or head that such a model has not, or positions of another kind."""
        if self.positions and not is_rotary:
            raise ValueError(f"positions is {self.positions!r}, but the model's are learned and part of its "
                             "keys: leave positions out")
        check_indices('layer', self.layers, n_layer)
        check_indices('head', self.heads, n_head)
        object.__setattr__(self, 'index_heads', pairs_of_heads(self.index_heads, n_layer, n_head))


class Heads(NamedTuple):
    """What an attention layer gives its reader.

    q and plain_q (B, nh, T, hs) are of the newest rows; k, v and plain_k (B, nkv, S, hs) of all.
    plain_q and plain_k are as before a rotation, and q and k themselves where there is none.
    """
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    plain_q: torch.Tensor
    plain_k: torch.Tensor


def attention_weights(q, k):
    """Eq. 1, S = softmax(QK^T / sqrt(hs)), causal.

    (B, nh, T, hs), (B, nkv, S, hs) -> (B, nh, T, S), float32.
    """
    return F.softmax(attention_scores(q, k), dim=-1)


def attention_scores(q, k):
    T, S = q.size(-2), k.size(-2)
    # float32, since a weight that is rounded further could fall on the other side of a threshold of Eq. 4
    scores = grouped(q, k.transpose(-2, -1)).float() / math.sqrt(k.size(-1))
    if T > 1:  # the T rows are the newest of S, one row sees everything
        scores = scores.masked_fill(~causal_mask(T, S, q.device), -math.inf)
    return scores


def grouped(x, y):
    """x @ y: x (B, nh, n, a), y (B or 1, nkv, a, b) -> (B, nh, n, b); y serves nh / nkv heads, uncopied."""
    B, nh, n, a = x.shape
    rows = x.reshape(B, y.size(1), nh // y.size(1) * n, a)
    if y.is_cuda or len(y) < B or B == 1 or y.stride(0) == y.size(1) * y.stride(1):
        found = rows @ y
    else:  # between a row's keys and the next one's its values lie: one product for all would copy them
        found = torch.stack([row @ own for row, own in zip(rows, y)])
    return found.view(B, nh, n, y.size(-1))


def causal_mask(T, S, device):
    """(T, S), True where the row may look."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


class Reader:
    """One layer's way to the memory, fixed while it is attached; a call keeps what it finds in its Cache."""

    def __init__(self, memory, layer, reading, n_head, rotary=None):
        self.memory, self.layer, self.reading, self.rotary = memory, layer, reading, rotary
        self.heads = tuple(sorted(reading.heads)) or tuple(range(n_head))
        self.group, self.n_kv_head, self.head_size = n_head // memory.n_head, memory.n_head, memory.head_size
        self.reads = torch.zeros(n_head, dtype=torch.bool, device='cpu')
        self.reads[list(self.heads)] = True

    @property
    def stored(self):
        """What is stored now, the same until that changes."""
        return self.memory.layer(self.layer)

    @property
    def changes_past(self):
        """Whether what layers above see of earlier tokens can change with a new one."""
        return self.reading.select == 'last'

    def attend(self, heads, cache, newest=0):
        """Heads -> y (B, nh, n, hs) of the newest n >= T rows.

        n > T where `select` is 'last' and the newest row picks otherwise than the row before it did: then
        earlier rows change. `newest`: how many rows are wanted at least, 0 is all. What the rows of a batch
        share, since they share their prompt, counts for each of them.
        """
        # of all rows: an earlier token may be picked only now, and its own query then ranks what is found
        queries = cache.append((self.layer, 'queries'), heads.plain_q)  # (B, nh, S, hs)
        of_all = heads._replace(plain_q=queries)
        # before first_changed_row, whose rows change in the layers above, not yet in this one
        change, known = self.kept(heads, cache)
        if self.reading.select == 'each':
            try:
                compiled.check_heads(of_all, cache)
                read = self.read_of(self.stored, *of_all[1:], change, known)
            except compiled.Elsewhere:
                return self.attend_each(of_all, change, known, cache)
            y, picks, searches = compiled.read_each(of_all.q, of_all.k.size(2), read)
            cache.counts.add(self.layer, searches, picks)
            return y
        # the newest row picks for all rows
        picked = self.pick(attention_weights(heads.q[:, :, -1:], heads.k))  # (B, nh, 1, S)
        # the last layer is asked for its newest rows alone: no layer above sees that the others changed
        first = max(self.first_changed_row(picked, cache), cache.end - newest if newest else 0)
        is_turned = heads.q is not heads.plain_q
        turned = cache.append((self.layer, 'turned queries'), heads.q) if is_turned else queries
        weights = attention_weights(turned[:, :, first:], heads.k)
        return self.replace(picked, weights, of_all, change, known, cache)

    def attend_each(self, heads, change, known, cache):
        """Each row picks for itself, so that any blocks of rows will do."""
        blocks, end = [], cache.length
        for rows in heads.q.split(ROWS_A_BLOCK, dim=2):
            end += rows.size(2)
            _, *seen = (x[:, :, :end] for x in heads)
            weights = attention_weights(rows, seen[0])  # (B, nh, n, end)
            kept = change[:, :, :end], known[:, :, :end]
            blocks.append(self.replace(self.pick(weights), weights, Heads(rows, *seen), *kept, cache))
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=2)

    def replace(self, picked, weights, heads, change, known, cache):
        """weights (B, nh, n, S) of n rows -> y (B, nh, n, hs), once what is picked is looked up.

        picked (B, nh, n or 1, S).
        """
        cache.counts.add(self.layer, picks=picked.count_nonzero())
        self.look_up(picked, weights, heads, change, known, cache)
        # v' goes in as v + (v' - v), since rows pick differently: no row needs values of its own
        return grouped(weights.to(heads.v.dtype), heads.v) + (weights * picked).to(heads.v.dtype) @ change

    def pick(self, weights):
        """Eq. 4. Attention of the newest rows (B, nh, n, S) -> True where the row picks the token-head."""
        n, S = weights.shape[-2:]
        # the first position is a sink of attention, where the threshold says little: it must exceed BF too
        first = weights[..., 0] > self.reading.bookkeeping_fraction
        if self.reading.memory_fraction == 0:  # no threshold to divide by: the first position alone
            picked = torch.zeros_like(weights, dtype=torch.bool)
            picked[..., 0] = first
        else:
            # t, the tokens that a row sees
            seen = torch.arange(S - n + 1, S + 1, device=weights.device).unsqueeze(-1)  # (n, 1)
            picked = weights >= 1 / (self.reading.memory_fraction * seen)
            picked[..., 0].logical_and_(first)
        return picked if self.reads.all() else picked & self.reads.to(weights.device)[:, None, None]

    def kept(self, heads, cache):
        """v' - v (B, nh, S, hs) of the token-heads looked up before, and (B, nh, S, 1) which are.

        Those are the ones whose key is still the same. Of each query head its own, also where several share
        a key head: their queries rank what is found.
        """
        names, v = ((self.layer, 'change'), (self.layer, 'known')), heads.v
        if names[0] not in cache.rows:
            B, nh, _, hs = heads.q.shape
            cache.rows[names[0]] = v.new_zeros(B, nh, cache.size, hs)
            cache.rows[names[1]] = v.new_zeros(B, nh, cache.size, 1, dtype=torch.bool)
        change, known = (cache.rows[name].narrow(-2, 0, cache.end) for name in names)
        if self.reading.select == 'last':  # by 'each' no row of the past changes
            known &= (torch.arange(cache.end, device=v.device) < cache.first[:, None])[:, None, :, None]
        return change, known

    def first_changed_row(self, picked, cache):
        """The first row to compute: the first given, or the first token picked otherwise in the step before.

        Rows before it see the same values as then, so their keys in the layers above, and what those found,
        stay.
        """
        if cache.length > 0:
            before = cache.rows[self.layer, 'picked'][:, :, :cache.length, 0]
            differs = (before != picked[:, :, 0, :cache.length]).any(1)  # (B, length)
            first = torch.where(differs.any(1), differs.int().argmax(1), cache.length)
            cache.first = torch.minimum(cache.first, first)
        cache.append((self.layer, 'picked'), picked.transpose(-2, -1))
        return cache.first.min().item()

    def look_up(self, picked, weights, heads, change, known, cache):
        """Writes v' - v of each picked token-head into `change`.

        Once while its key stays, since each depends on that token alone.
        """
        # by head, as they are searched
        h, b, j = (picked.any(-2) & ~known[..., 0]).transpose(0, 1).nonzero(as_tuple=True)
        if len(h) == 0:
            return
        at, stored_head = (b, h, j), h // self.group
        # as before a rotation, like the stored: positions of two texts do not compare
        queries, keys = heads.plain_q[at], heads.plain_k[b, stored_head, j]
        stored, values = self.stored, heads.v[b, stored_head, j]
        found, ids, distances, ranks = found_values(stored, stored_head, queries, keys, values, self.reading)
        change[at], known[at] = found - values, True
        cache.counts.add(self.layer, searches=len(h))
        if cache.trace is not None:
            # Eq. 1, of the row that picked; of several the largest
            attention = weights[:, :, -picked.size(2):].masked_fill(~picked, 0).amax(-2)[at]
            self.record(cache.trace, at, attention, ids, distances, ranks)

    # ---- in core/kernel.cpp ----

    def compiled(self, rows, cache):
        """-> what a step of compiled layers reads, core.kernel.Read. rows: Places.rows_of this layer."""
        k, v, plain = own_rows(rows, self.n_kv_head, self.head_size, self.rotary)
        nh, hs = len(self.reads), self.head_size
        found = rows('change', nh, hs), rows('known', nh, 1, torch.bool)
        return self.read_of(self.stored, k, v, rows('queries', nh, hs), plain, *found)

    def count(self, cache, R, picks, searches):
        """Of a step of R rows."""
        cache.counts.add(self.layer, searches, picks)

    def read_of(self, stored, k, v, plain_q, plain_k, change, known):
        keys, values = stored.keys.table.rows[None], stored.values.rows[None]
        return compiled.read_of(self.reads, keys, values, self.reading, k, v, plain_k, plain_q, change, known)

    def record(self, trace, at, attention, ids, distances, ranks):
        """Adds to the trace one row of the write-up's Table 2 for each of N look-ups."""
        names = 'b', 'h', 'j', 'attention', 'ids', 'distances', 'ranks'
        columns = [column.tolist() for column in (*at, attention, ids, distances, ranks)]
        trace += [dict(zip(names, row), layer=self.layer) for row in zip(*columns)]


def own_rows(rows, nkv, hs, rotary):
    """The context's keys, values, and keys as before a rotation, each (R, nkv, size, hs). rows: as for
    Reader.compiled."""
    k, v = rows('kv', 2 * nkv, hs).split(nkv, dim=1)
    return k, v, k if rotary is None else rows('plain', nkv, hs)


def found_values(stored, heads, queries, keys, values, reading):
    """v' for N picked token-heads by methods 1 to 3: search by key, rank by query (Eq. 5), blend.

    stored: the layer's rows, see PersistentMemory.layer. heads (N,) int64, key heads.
    queries, keys, values (N, hs) of the picked tokens themselves.
    -> v' (N, hs), ids (N, K), squared distances (N, K), ranks (N, K) of the stored keys; K = min(k, M).
    """
    distances, ids = stored.keys.search(heads, keys, min(reading.k, len(stored.keys)))
    rows = stored.values.places(heads, ids)
    found_keys, found = stored.keys.table.like(queries)[rows], stored.values.like(values)[rows]  # (N, K, hs)
    if reading.method != 2:  # the token itself is one more candidate
        found_keys, found = torch.cat((found_keys, keys[:, None]), 1), torch.cat((found, values[:, None]), 1)
    scale = reading.softmax_scale / math.sqrt(queries.size(-1))
    scores = (found_keys @ queries[:, :, None])[..., 0].float() * scale  # float32 has room for LARGEST_SCALE
    scores[:, :ids.size(1)].masked_fill_(ids < 0, -math.inf)
    ranks = F.softmax(scores, dim=-1).to(values.dtype)  # Eq. 5
    m = (ranks[:, None] @ found)[:, 0]
    if reading.method != 1:
        m = m.lerp(values, reading.residual_fraction)
    return m, ids, distances, ranks[:, :ids.size(1)]
