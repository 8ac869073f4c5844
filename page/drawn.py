"""
What the newest rows of a pass drew from a memory, in a layer: read off the call's cache, by the functions
that the pass itself went through.

Every method adds stored values to what a head puts out, each times a weight: the share of the head's
attention that went to a stored row. By methods 2 and 3 that is S (1 - RF) s_n, added up over the tokens
picked, and S s_n by method 1 (S of Eq. 1, s_n of Eq. 5); by methods 4 and 5 the softmax's own weight.

nh query heads, m newest rows, S tokens seen, P stored rows that the layer can draw from, N look-ups, K
neighbours. B = 1.
"""
from typing import NamedTuple

import torch

from core.rotary import turn
from extended import FarTexts
from reader import Heads, attention_weights, found_values


class LookUps(NamedTuple):
    """Methods 1 to 3: what m rows picked, and what was found for it, each token-head looked up once.

    heads and tokens (N,); attention (m, N), Eq. 1 of the rows that picked it, 0 of the others; ids (N, K), -1
    is none; squared distances and shares (N, K), Eq. 5.
    """
    heads: torch.Tensor
    tokens: torch.Tensor
    attention: torch.Tensor
    ids: torch.Tensor
    distances: torch.Tensor
    shares: torch.Tensor


def weights_of(model, cache, layer, m, found=None):
    """-> (m, nh, P) float32, how much of its attention each row gave to each stored row. found: the layer's
    LookUps, of a layer that reads by methods 1 to 3."""
    reader = cache.readers.get(layer)
    if reader is None:  # recalled rows stand in the cache's front, behind the header
        front = cache.front[layer, 'kv'].size(-2) if cache.front else 0
        heads = newest(model, cache, layer, m)
        return attention_weights(heads.q, heads.k)[0, :, :, cache.offset:front].transpose(0, 1)
    if isinstance(reader, FarTexts):
        return reader.drawn_beside(newest(model, cache, layer, m))[0][0].transpose(0, 1).float()
    stored = reader.stored
    weights = torch.zeros(m, model.config.n_head, len(stored.keys), device=cache.first.device)
    if reader.reading.method == 4:
        h, ids, _, drawn, _ = reader.drawn_beside(newest(model, cache, layer, m), stored)
        at = torch.arange(m, device=h.device).repeat(len(reader.heads))[:, None], h[:, None]
    else:
        kept = 0 if reader.reading.method == 1 else reader.reading.residual_fraction
        drawn, ids = (1 - kept) * found.attention[:, :, None] * found.shares, found.ids  # (m, N, K)
        at = torch.arange(m, device=ids.device)[:, None, None], found.heads[:, None]
    # an id of -1 has a share of 0
    return weights.index_put((*at, ids.clamp(min=0)), drawn.float(), accumulate=True)


def look_ups(model, cache, layer, m):
    """-> LookUps of the newest m rows."""
    reader, heads = cache.readers[layer], newest(model, cache, layer, m)
    weights = attention_weights(heads.q, heads.k)
    picked = reader.pick(weights)[0]  # (nh, m, S)
    h, j = picked.any(1).nonzero(as_tuple=True)
    key_head = h // reader.group
    queries = cache.seen((layer, 'queries'))[0, h, j]
    found = found_values(reader.stored, key_head, queries, heads.plain_k[0, key_head, j],
                         heads.v[0, key_head, j], reader.reading)
    return LookUps(h, j, (weights[0] * picked)[h, :, j].T, *found[1:3], found[3].float())


def newest(model, cache, layer, m):
    """The Heads that a layer's newest m rows were computed from."""
    plain_q = cache.kept[layer][0][:, :, -m:]
    k, v = cache.seen((layer, 'kv')).chunk(2, dim=1)
    plain_k = cache.seen((layer, 'plain')) if (layer, 'plain') in cache.rows else k
    q = plain_q
    if model.rotary is not None:
        end = cache.offset + cache.end
        q = turn(q, model.rotary.at(torch.arange(end - m, end, device=q.device)))
    return Heads(q, k, v, plain_q, plain_k)
