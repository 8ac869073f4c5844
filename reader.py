"""
The method: what an attention layer that reads a memory does. Letters as in model.py; N look-ups, S tokens seen.

Equations are those of the write-up, "Towards Integrating Medium-Term Memory into Transformer Models" (2024). Methods 1 to 3 pick
token-heads (Eq. 4), find a value for each among the stored (Eq. 5), and put it in the place of the token's own; method 4 lets every row
attend to stored tokens beside its context.
"""
import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from core.checks import check_choice, check_indices, check_range, whole_number, whole_numbers

ROWS_A_BLOCK = 128  # of a long prompt that a reading layer attends with at once: keeps (B, nh, rows, S) in a CPU's cache
SETTINGS = {'layers': 'memory_layers', 'heads': 'memory_heads', 'k': 'memory_k', 'method': 'memory_method',
            'memory_fraction': 'memory_fraction', 'bookkeeping_fraction': 'bookkeeping_fraction', 'softmax_scale': 'softmax_scale',
            'residual_fraction': 'residual_fraction', 'select': 'memory_select'}  # fields of Reading, and what scripts call them
LARGEST_SCALE = 1e6  # takes the best alone; beyond, float32 would overflow


@dataclass(frozen=True)
class Reading:
    """
    How a memory is read: the settings of all layers that read it, made once and passed whole.

    layers, heads: 0-based; heads () is all. k: neighbours a look-up. method: 1, 2, 3 (the write-up) or 4 (extended attention).
    memory_fraction: MF >= 0. bookkeeping_fraction: BF in [0, 1]. softmax_scale: TS in [0, 1e6]. residual_fraction: RF in [0, 1].
    select: 'last', the newest row picks for all rows, or 'each', every row for itself. Raises ValueError that names what does not fit.
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

    def __post_init__(self):
        for kind in ('layers', 'heads'):
            object.__setattr__(self, kind, whole_numbers(kind, getattr(self, kind)))
        object.__setattr__(self, 'k', whole_number('k', self.k))
        if not self.layers:
            raise ValueError("layers is (), expected at least one layer that reads")
        if self.k < 1:
            raise ValueError(f"k is {self.k}, expected a whole number of neighbours, 1 or more")
        check_choice('method', self.method, (1, 2, 3, 4))
        check_choice('select', self.select, ('last', 'each'))
        check_range('memory_fraction', self.memory_fraction, 1e6)
        check_range('bookkeeping_fraction', self.bookkeeping_fraction, 1)
        check_range('softmax_scale', self.softmax_scale, LARGEST_SCALE)
        check_range('residual_fraction', self.residual_fraction, 1)

    @classmethod
    def of(cls, settings):
        """From a script's settings, {name: value}."""
        return cls(**{field: settings[name] for field, name in SETTINGS.items()})

    def check_model(self, n_layer, n_head):
        """Raises ValueError for a layer or head that a model of this size has not."""
        check_indices('layer', self.layers, n_layer)
        check_indices('head', self.heads, n_head)


def attention_weights(q, k):
    """Eq. 1, S = softmax(QK^T / sqrt(hs)), causal: (B, nh, T, hs), (B, nh, S, hs) -> (B, nh, T, S), float32."""
    return F.softmax(attention_scores(q, k), dim=-1)


def attention_scores(q, k):
    T, S = q.size(-2), k.size(-2)
    scores = (q @ k.transpose(-2, -1)).float() / math.sqrt(k.size(-1))
    if T > 1:  # the T rows are the newest of S, one row sees everything
        scores = scores.masked_fill(~causal_mask(T, S, q.device), -math.inf)
    return scores


def causal_mask(T, S, device):
    """(T, S), True where the row may look."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


class Reader:
    """One layer's way to the memory, fixed while it is attached; what a call finds and counts is kept in its Cache."""

    def __init__(self, memory, layer, reading, n_head):
        self.memory, self.layer, self.reading = memory, layer, reading
        self.heads = tuple(sorted(reading.heads)) or tuple(range(n_head))
        self.all_heads = len(self.heads) == n_head

    def attend(self, q, k, v, cache, newest=0):
        """q (B, nh, T, hs) of the newest rows, k and v (B, nh, S, hs) of all -> y (B, nh, n, hs) of the newest n >= T rows.

        n > T where `select` is 'last' and the newest row picks otherwise than the row before it did: then earlier rows change.
        `newest`: how many rows are wanted at least, 0 is all. What the rows of a batch share, since they share their prompt, counts
        for each of them.
        """
        if self.reading.method == 4:
            return self.attend_extended(q, k, v, cache)
        queries = cache.append((self.layer, 'queries'), q)  # (B, nh, S, hs)
        change, known = self.kept(v, cache)
        if self.reading.select == 'each':
            return self.attend_each(q, queries, k, v, change, known, cache)
        picked = self.pick(attention_weights(q[:, :, -1:], k))  # (B, nh, 1, S): the newest row picks for all rows
        first = max(self.first_changed_row(picked, cache), cache.end - newest if newest else 0)
        weights = attention_weights(queries[:, :, first:], k)
        return self.replace(picked, weights, queries, k, v, change, known, cache)

    def attend_each(self, q, queries, k, v, change, known, cache):
        """Each row picks for itself, so that any blocks of rows will do."""
        blocks, end = [], cache.length
        for rows in q.split(ROWS_A_BLOCK, dim=2):
            end += rows.size(2)
            seen = [x[:, :, :end] for x in (queries, k, v, change, known)]
            weights = attention_weights(rows, seen[1])  # (B, nh, n, end)
            blocks.append(self.replace(self.pick(weights), weights, *seen, cache))
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=2)

    def replace(self, picked, weights, queries, k, v, change, known, cache):
        """y (B, nh, n, hs) of rows with these weights (B, nh, n, S), after looking up what is picked (B, nh, n or 1, S)."""
        cache.counts.add(self.layer, picks=picked.count_nonzero())
        self.look_up(picked, weights, queries, k, v, change, known, cache)
        return weights.to(v.dtype) @ v + (weights * picked).to(v.dtype) @ change

    def pick(self, weights):
        """Eq. 4. Attention of the newest rows (B, nh, n, S) -> True where the row picks the token-head."""
        n, S = weights.shape[-2:]
        first = weights[..., 0] > self.reading.bookkeeping_fraction
        if self.reading.memory_fraction == 0:
            picked = torch.zeros_like(weights, dtype=torch.bool)
            picked[..., 0] = first
        else:
            seen = torch.arange(S - n + 1, S + 1, device=weights.device).unsqueeze(-1)  # t, the tokens that a row sees
            picked = weights >= 1 / (self.reading.memory_fraction * seen)
            picked[..., 0].logical_and_(first)
        return picked if self.all_heads else picked & self.head_mask(weights)

    def head_mask(self, weights):
        """(nh, 1, 1), True for a head that reads."""
        mask = torch.zeros(weights.size(1), 1, 1, dtype=torch.bool, device=weights.device)
        mask[list(self.heads)] = True
        return mask

    def kept(self, v, cache):
        """v' - v (B, nh, S, hs) of the token-heads looked up before, and (B, nh, S, 1) which are: those whose key is still the same."""
        names = (self.layer, 'change'), (self.layer, 'known')
        if names[0] not in cache.rows:
            B, nh, _, hs = v.shape
            cache.rows[names[0]] = v.new_zeros(B, nh, cache.size, hs)
            cache.rows[names[1]] = v.new_zeros(B, nh, cache.size, 1, dtype=torch.bool)
        change, known = (cache.rows[name].narrow(-2, 0, cache.end) for name in names)
        if self.reading.select == 'last':
            known &= (torch.arange(cache.end, device=v.device) < cache.first[:, None])[:, None, :, None]
        return change, known

    def first_changed_row(self, picked, cache):
        """The first row to compute: the first given, or the first token that was picked otherwise in the step before.

        Rows before it see the same values as then, so their keys in the layers above, and what those found, stay.
        """
        if cache.length > 0:
            before = cache.rows[self.layer, 'picked'][:, :, :cache.length, 0]
            differs = (before != picked[:, :, 0, :cache.length]).any(1)  # (B, length)
            first = torch.where(differs.any(1), differs.int().argmax(1), cache.length)
            cache.first = torch.minimum(cache.first, first)
        cache.append((self.layer, 'picked'), picked.transpose(-2, -1))
        return cache.first.min().item()

    def look_up(self, picked, weights, queries, keys, values, change, known, cache):
        """Writes v' - v of each picked token-head into `change`, once while its key stays: each depends on that token alone."""
        h, b, j = (picked.any(-2) & ~known[..., 0]).transpose(0, 1).nonzero(as_tuple=True)  # by head, as they are searched
        if len(h) == 0:
            return
        at = b, h, j
        found, ids, distances, ranks = found_values(self.memory.layer(self.layer), h, queries[at], keys[at], values[at], self.reading)
        change[at], known[at] = found - values[at], True
        cache.counts.add(self.layer, searches=len(h))
        if cache.trace is not None:
            attention = weights[:, :, -picked.size(2):].masked_fill(~picked, 0).amax(-2)[at]  # Eq. 1, of the row that picked
            self.record(cache.trace, at, attention, ids, distances, ranks)

    def attend_extended(self, q, k, v, cache):
        """Method 4: one softmax over the context and the K stored keys with the largest product with the row's own query.

        kNN attention of Memorizing Transformers (Wu et al. 2022, 3.2) without its gate; Extended Mind Transformers (2024).
        """
        B, nh, T, hs = q.shape
        heads, stored = list(self.heads), self.memory.layer(self.layer)
        K = min(self.reading.k, len(stored.keys))
        h = torch.tensor(heads, device=q.device).repeat_interleave(B * T)
        products, ids = stored.keys.search(h, q.transpose(0, 1)[heads].reshape(-1, hs), K, 'product')  # (N, K)
        products = (self.reading.softmax_scale / math.sqrt(hs) * products).masked_fill(ids < 0, -math.inf)
        beside = products.new_full((nh, B, T, K), -math.inf)
        beside[heads] = products.view(-1, B, T, K)
        both = F.softmax(torch.cat((beside.transpose(0, 1), attention_scores(q, k)), dim=-1), dim=-1).to(v.dtype)
        drawn, weights = both.split((K, k.size(2)), dim=-1)
        drawn = drawn.transpose(0, 1)[heads].reshape(-1, K)  # (N, K), what a row draws from each stored token
        y = weights @ v
        y[:, heads] += blend(stored, h, ids, drawn).view(-1, B, T, hs).transpose(0, 1)
        cache.counts.add(self.layer, searches=len(h), picks=len(h))
        if cache.trace is not None:
            b, i = (grid.flatten().repeat(len(heads)) for grid in torch.meshgrid(torch.arange(B), torch.arange(T), indexing='ij'))
            self.record(cache.trace, (b, h, i + k.size(2) - T), drawn.sum(-1), ids, products, drawn)
        return y

    def record(self, trace, at, attention, ids, distances, ranks):
        """Adds to the trace one row of the write-up's Table 2 for each of N look-ups."""
        names = 'b', 'h', 'j', 'attention', 'ids', 'distances', 'ranks'
        columns = [column.tolist() for column in (*at, attention, ids, distances, ranks)]
        trace += [dict(zip(names, row), layer=self.layer) for row in zip(*columns)]


def found_values(stored, heads, queries, keys, values, reading):
    """v' for N picked token-heads by methods 1 to 3: search by key, rank by query (Eq. 5), blend.

    stored: the layer's rows, see PersistentMemory.layer. heads (N,) int64; queries, keys, values (N, hs) of the picked tokens themselves.
    -> v' (N, hs), ids (N, K), squared distances (N, K), ranks (N, K) of the stored keys; K = min(k, M).
    """
    distances, ids = stored.keys.search(heads, keys, min(reading.k, len(stored.keys)))
    rows = stored.values.places(heads, ids)
    found_keys, found = stored.keys.table.like(queries)[rows], stored.values.like(values)[rows]  # (N, K, hs)
    if reading.method != 2:  # the token itself is one more candidate
        found_keys, found = torch.cat((found_keys, keys[:, None]), 1), torch.cat((found, values[:, None]), 1)
    scores = (found_keys @ queries[:, :, None])[..., 0].float() * (reading.softmax_scale / math.sqrt(queries.size(-1)))
    scores[:, :ids.size(1)].masked_fill_(ids < 0, -math.inf)
    ranks = F.softmax(scores, dim=-1).to(values.dtype)  # Eq. 5
    m = (ranks[:, None] @ found)[:, 0]
    if reading.method != 1:
        m = m.lerp(values, reading.residual_fraction)
    return m, ids, distances, ranks[:, :ids.size(1)]


def blend(stored, heads, ids, weights):
    """m = sum_n weights_n v_n: heads (N,), ids (N, K), weights (N, K), 0 where the id is -1 -> (N, hs)."""
    places, table = stored.values.places(heads, ids), stored.values.like(weights)
    return F.embedding_bag(places, table, per_sample_weights=weights, mode='sum')  # K may be large here
