"""
Method 4, extended attention: one softmax over the context and the K stored keys of largest product with the
query. Letters as in model.py; N look-ups.

kNN attention of Memorizing Transformers (Wu et al. 2022, 3.2) without its gate; Extended Mind Transformers
(2024).
"""
import math

import torch
from torch.nn import functional as F

from core import compiled
from core.index import Index
from core.rotary import turn
from reader import (
    ROWS_A_BLOCK,
    Heads,
    Reader,
    Reading,
    attention_scores,
    attention_weights,
    grouped,
    own_rows,
)


def readers_of(memory, reading, n_head, rotary):
    """-> {layer: its Reader}, of methods 1 to 4."""
    kind = ExtendedReader if reading.method == 4 else Reader
    return {layer: kind(memory, layer, reading, n_head, rotary) for layer in reading.layers}


class ExtendedReader(Reader):
    """A layer's Reader by method 4."""
    changes_past = False

    def __init__(self, *args):
        super().__init__(*args)
        self.scale = self.reading.softmax_scale / math.sqrt(self.head_size)
        self.placed = None, None  # the keys, and those keys turned to their positions

    def attend(self, given, cache, newest=0):
        """Heads -> y (B, nh, T, hs)."""
        B, nh, T, hs = given.q.shape
        heads, stored = list(self.heads), self.stored
        cache.counts.add(self.layer, searches=B * T * len(heads), picks=B * T * len(heads))
        if len(stored.keys) == 0:  # emptied meanwhile
            return grouped(attention_weights(given.q, given.k).to(given.v.dtype), given.v)
        if self.reading.k >= len(stored.keys) and cache.trace is None:
            return self.attend_all(given, stored)
        h, ids, scores, drawn, weights = self.drawn_beside(given, stored)
        y = grouped(weights, given.v)
        y[:, heads] += blend(stored, h // self.group, ids, drawn).view(-1, B, T, hs).transpose(0, 1)
        if cache.trace is not None:
            grids = torch.meshgrid(torch.arange(B), torch.arange(T), indexing='ij')
            b, i = (grid.flatten().repeat(len(heads)) for grid in grids)
            self.record(cache.trace, (b, h, i + cache.length), drawn.sum(-1), ids, scores, drawn)
        return y

    def attend_all(self, given, stored):
        """As attend where all stored keys are meant, so that none has to be looked for; some rows at once."""
        blocks, end = [], given.k.size(2) - given.q.size(2)
        for q, plain_q in zip(*(rows.split(ROWS_A_BLOCK, dim=2) for rows in (given.q, given.plain_q))):
            end += q.size(2)
            k, v, plain_k = (rows[:, :, :end] for rows in (given.k, given.v, given.plain_k))
            blocks.append(self.attend_block(Heads(q, k, v, plain_q, plain_k), stored))
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=2)

    def attend_block(self, given, stored):
        queries, keys, context = self.positioned(given, stored)
        keys, values = (part.like(given.v).view(1, *part.rows.shape) for part in (keys.table, stored.values))
        scores = self.scale * grouped(queries, keys.transpose(-2, -1)).float()
        drawn, weights = self.softmax_beside(scores, context, given)
        return grouped(weights, given.v) + grouped(drawn, values)

    def drawn_beside(self, given, stored):
        """Method 4's softmax over the K stored keys of largest product and the context.

        -> of N = B T look-ups a head that reads, by head: the head (N,), ids, scores and weights (N, K);
        and the context's weights (B, nh, T, S).
        """
        B, nh, T, hs = given.q.shape
        heads = list(self.heads)
        queries, keys, context = self.positioned(given, stored)
        K = min(self.reading.k, len(keys))
        h = torch.tensor(heads, device=queries.device).repeat_interleave(B * T)
        asked = queries.transpose(0, 1)[heads].reshape(-1, hs)  # (N, hs), by head, as they are searched
        products, ids = keys.search(h // self.group, asked, K, 'product')  # (N, K)
        scores, beside = self.scale * products, products.new_zeros(nh, B, T, K)
        beside[heads] = scores.view(-1, B, T, K)
        drawn, weights = self.softmax_beside(beside.transpose(0, 1), context, given)
        return h, ids, scores, drawn.transpose(0, 1)[heads].reshape(-1, K), weights

    def softmax_beside(self, scores, context, given):
        """Scores of stored keys (B, nh, T, K) and of the context (B, nh, T, S) -> the weights of both."""
        T, S = given.q.size(2), given.k.size(2)
        if not self.reads.all():  # heads that do not read draw nothing
            scores[:, ~self.reads] = -math.inf
        if self.where == 'insert':  # the header's rows stand before the text
            scores[:, :, :max(0, self.memory.header_tokens - (S - T))] = -math.inf
        both = F.softmax(torch.cat((scores, context), dim=-1), dim=-1).to(given.v.dtype)
        return both.split((scores.size(-1), S), dim=-1)

    def count(self, cache, R, picks, searches):
        cache.counts.add(self.layer, R * len(self.heads), R * len(self.heads))

    def compiled(self, rows, cache):
        """As Reader.compiled."""
        stored, header = self.stored, self.memory.header_tokens if self.where == 'insert' else 0
        if cache.length < header or len(stored.keys) == 0:
            raise compiled.Elsewhere
        keys, turns = self.placed_keys(stored).table.rows, ()
        if self.where == 'far':
            turns = self.rotary.at_one(self.reading.distance, keys.device)
        elif header:
            turns = self.back(stored, keys.device)
        k, v, plain = own_rows(rows, self.n_kv_head, self.head_size, self.rotary)
        return compiled.read_of(self.reads, keys[None], stored.values.rows[None], self.reading, k, v, plain,
                                turns=turns, header=header)

    @property
    def where(self):
        """'' where positions are learned, and part of a key."""
        return '' if self.rotary is None else self.reading.positions or 'far'

    def positioned(self, given, stored):
        """-> queries (B, nh, T, hs), stored keys (an Index) at their positions, the context's scores."""
        scores = attention_scores(given.q, given.k)  # (B, nh, T, S)
        T, S = scores.shape[-2:]
        if self.where == '':
            return given.q, stored.keys, scores
        if self.where == 'far':  # rotary attention sees differences only: the query is turned, the keys stay
            away = self.rotary.at_one(self.reading.distance, given.q.device)
            return turn(given.plain_q, away), stored.keys, scores
        header = self.memory.header_tokens
        if self.where == 'insert' and S > header > 0:
            # header and text move back by the text's length, nothing else moves
            n = max(0, header + T - S)  # rows of the header itself, which stay before the text
            back = turn(given.plain_k[:, :, :header], self.back(stored, given.q.device))
            moved = grouped(given.q[:, :, n:], back.transpose(-2, -1)).float() / math.sqrt(given.q.size(-1))
            scores[:, self.heads, n:, :back.size(2)] = moved[:, self.heads]  # others see no text
        return given.q, self.placed_keys(stored), scores

    def back(self, stored, device):
        """What keys of the prompt's header are turned by, whose text is inserted behind them."""
        return self.rotary.at(torch.arange(self.memory.header_tokens, device=device) - max(stored.lengths))

    def placed_keys(self, stored):
        """The stored keys turned to where their text stands: an Index, made once for what is stored."""
        if self.where in ('', 'far'):
            return stored.keys
        keys, index = self.placed
        if keys is not stored.keys:
            header, own = self.memory.header_tokens, self.where == 'own'
            # inserted, each text ends where the prompt goes on after its header
            places = torch.cat([torch.arange(n) + header - (0 if own else n) for n in stored.lengths])
            with torch.inference_mode(False):  # what is kept outlasts the call that first asked for it
                index = Index(turn(stored.keys.table.rows, self.rotary.at(places)))
            self.placed = stored.keys, index  # at once, since other threads may read with it
        return index


class FarTexts:
    """One layer's way to recalled texts that stand `distance` tokens before whoever asks."""
    changes_past = False

    def __init__(self, keys, values, seen, recaller):  # keys and values (B or 1, nkv, P, hs)
        self.keys, self.values, self.seen, self.recaller = keys, values, seen, recaller

    def attend(self, heads, cache, newest=0):
        """Heads -> y (B, nh, T, hs)."""
        drawn, weights = self.drawn_beside(heads)
        return grouped(drawn, self.values) + grouped(weights, heads.v)

    @property
    def stored(self):
        """What can change of it."""
        return self.seen

    def count(self, cache, R, picks, searches):
        """Nothing: what is read was recalled, which counts."""

    def compiled(self, rows, cache):
        """As Reader.compiled."""
        if self.seen is not None or self.keys.size(2) == 0:
            raise compiled.Elsewhere
        _, nkv, _, hs = self.keys.shape
        rotary = self.recaller.rotary
        k, v, plain = own_rows(rows, nkv, hs, rotary)
        turns = () if rotary is None else rotary.at_one(self.recaller.reading.distance, k.device)
        reads = torch.ones(self.recaller.config.n_head, dtype=torch.bool, device='cpu')
        all_of_them = Reading(k=self.keys.size(2), method=4, softmax_scale=1.0)
        return compiled.read_of(reads, self.keys, self.values, all_of_them, k, v, plain, turns=turns)

    def drawn_beside(self, heads):
        """One softmax over the texts' rows and the context -> weights (B, nh, T, P) and (B, nh, T, S)."""
        queries = self.recaller.far(heads.plain_q)
        scores = grouped(queries, self.keys.transpose(-2, -1)).float() / math.sqrt(queries.size(-1))
        if self.seen is not None:
            scores = scores.masked_fill(~self.seen.to(scores.device)[:, None, None], -math.inf)
        both = F.softmax(torch.cat((scores, attention_scores(heads.q, heads.k)), dim=-1), dim=-1)
        return both.to(heads.v.dtype).split((scores.size(-1), heads.k.size(-2)), dim=-1)


def blend(stored, heads, ids, weights):
    """m = sum_n weights_n v_n: heads (N,), ids (N, K), weights (N, K), 0 where the id is -1 -> (N, hs)."""
    places, table = stored.values.places(heads, ids), stored.values.like(weights)
    # K may be large here: no (N, K, hs) is made
    return F.embedding_bag(places, table, per_sample_weights=weights, mode='sum')
