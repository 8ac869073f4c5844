"""
Votes: how well each text's best row goes with a look-up, and what of it counts.

N look-ups (a token's query in an index head), M stored rows, hs head size.
"""
import math

import numpy as np
import torch

ROWS_A_BLOCK = 2**14  # widened and looked at together, so that they are still in the processor's cache
SCORES_A_BLOCK = 2**24  # of look-ups with stored rows, 64 MiB


def votes_of(queries, rows, lengths, counted, count, beside=None):
    """What B times n look-ups (B, n, hs) in one key head give each text -> (B, texts).

    rows: an IndexRows of M; lengths: rows a text; counted: the numbers of the texts that count, or a slice;
    count: of above_the_floor; beside: rows and lengths of what tells the floor, None is what counts.
    """
    each, scale = queries.flatten(0, 1), math.sqrt(rows.head_size)
    best = best_of_texts(each, rows, lengths)[:, counted] / scale
    others = best if beside is None else best_of_texts(each, *beside) / scale
    return above_the_floor(best, count, others).view(len(queries), -1, best.size(1)).sum(1)


def best_of_texts(queries, rows, lengths):
    """Of each text the greatest product of one of its rows: (N, hs) float32, an IndexRows of M, rows a text
    (texts,) -> (N, texts) float32, -inf for a text without rows.

    Exact, for the rows as they are stored. Block by block of whole texts, so that neither the scores of a
    large memory nor its rows in float32 are ever there at once.
    """
    found, first, held = [np.zeros((len(queries), 0), np.float32)], 0, lengths > 0
    for own in blocks_of_texts(lengths[held], max(1, min(ROWS_A_BLOCK, SCORES_A_BLOCK // len(queries)))):
        end = first + int(own.sum())
        scores = rows.products(queries, first, end).numpy()
        found.append(np.maximum.reduceat(scores, (own.cumsum(0) - own).numpy(), axis=1))
        first = end
    found = torch.from_numpy(np.concatenate(found, axis=1))
    if held.all():
        return found
    best = found.new_full((len(queries), len(lengths)), -math.inf)
    best[:, held] = found
    return best


def best_of_found(scores, ids, ends):
    """As best_of_texts, of rows that a search found: scores and ids (N, k), -1 is none; ends (texts,), the
    row behind each text's last. A text of which no row was found has the weakest score."""
    weakest = scores.masked_fill(ids < 0, math.inf).amin(1, keepdim=True)
    texts = torch.searchsorted(ends, ids.clamp(min=0), right=True)
    best = weakest.expand(-1, len(ends)).clone()
    return best.scatter_reduce(1, texts, torch.where(ids < 0, weakest, scores), 'amax')


def named_texts(scores, ids, ends, live, count):
    """Places in `live`, numbers of texts, of the `count` that rows which a search found speak for most."""
    best = best_of_found(scores, ids, ends)[:, live]
    above = (best - best.amin(1, keepdim=True)).sum(0)
    return above.topk(min(count, len(live))).indices.sort().values


def blocks_of_texts(lengths, block):
    """Rows a text (texts,) -> the same in parts, of as many texts as have `block` rows, at least one."""
    ends, first = lengths.cumsum(0), 0
    while first < len(lengths):
        before = int(ends[first - 1]) if first else 0
        end = max(first + 1, int(torch.searchsorted(ends, before + block, right=True)))
        yield lengths[first:end]
        first = end


def above_the_floor(best, count, others):
    """By how much each text of best (N, texts) is above the count-th best of others (N, texts), 0 below.

    -inf, a text without rows, counts as the lowest of the others.
    """
    no_rows = others == -math.inf
    if no_rows.any():
        others = others.where(~no_rows, others.masked_fill(no_rows, math.inf).amin(1, keepdim=True))
    floor = others.topk(min(count, others.size(1)), dim=1).values[:, -1:]
    return (best - floor).clamp_(min=0)
