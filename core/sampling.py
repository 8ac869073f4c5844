"""
Draws the next token: what nanoGPT draws for a seed, at a fraction of the cost.

B batch, V vocab_size, n candidates.
"""
import functools
import math
import random

import torch
from torch.nn import functional as F


def sample(logits, temperature, top_k, generators):
    """logits (B, vocab_size) -> drawn ids (B, 1); with generators, each row by its own."""
    logits = logits.float()
    if generators is not None and not logits.is_cuda and races_are_known():
        return race(*likeliest(logits, temperature, top_k), logits.size(-1), generators)
    logits = logits / temperature
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.size(-1))).values[:, [-1]]
        logits = logits.masked_fill(logits < kth, -math.inf)
    probs = F.softmax(logits, dim=-1)
    if generators is None:
        return torch.multinomial(probs, num_samples=1)
    return torch.cat([torch.multinomial(row, 1, generator=g)[None] for row, g in zip(probs, generators)])


def likeliest(logits, temperature, top_k):
    """logits / temperature (B, n) of the top_k likeliest ids, and of those as likely as the last, and these
    ids (B, n).

    Rows that have fewer are filled with -inf.
    """
    V = logits.size(-1)
    if top_k is None:
        return logits / temperature, torch.arange(V).expand(logits.shape)
    # some to spare for ids as likely as the last, twice as many where these are too few
    k, n = min(top_k, V), min(top_k + 32, V)
    while True:
        values, ids = logits.topk(n)
        values = values / temperature
        kth = values[:, [k - 1]]
        if n == V or (values[:, -1:] < kth).all():
            return values.masked_fill(values < kth, -math.inf), ids
        n = min(2 * n, V)


def race(logits, ids, V, generators):
    """What torch.multinomial draws from each row's softmax over V ids, where all but `ids` (B, n), of
    `logits` (B, n), have none.

    It draws an exponential time for every id, -log(1 - u), and takes the first to arrive, argmax of p /
    time. Here every u is drawn, so that the generator stands where it would, but only those that can win
    become times: at a fifth of its cost for n = 200.
    """
    if not logits.amax(-1).isfinite().all():
        raise ValueError("the logits are not finite: the model's weights are damaged, "
                         "or its dtype is too narrow for them")
    u = torch.empty(ids.shape, dtype=torch.float64)
    drawn = torch.empty(V, dtype=torch.float64)
    for row, generator in enumerate(generators):
        u[row] = torch.rand(V, dtype=torch.float64, generator=generator, out=drawn)[ids[row]]
    times = -torch.log1p(-u).float()
    return ids.gather(1, (F.softmax(logits, dim=-1) / times).argmax(-1, keepdim=True))


@functools.cache
def races_are_known():
    """Whether this torch's multinomial draws as `race` does: other builds could use another stream of random
    numbers."""
    logits = torch.linspace(-1, 1, 64)[None]
    ours, theirs = (torch.Generator().manual_seed(1) for _ in range(2))
    raced = [race(logits, torch.arange(64)[None], 64, [ours]).item() for _ in range(8)]
    probs = F.softmax(logits[0], -1)
    return raced == [torch.multinomial(probs, 1, generator=theirs).item() for _ in range(8)]


def check_seeds(seeds):
    """Raises ValueError for a seed that torch's generator on a CPU, of 32 bits, would take for another."""
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed {seed} is out of range: give whole numbers from 0 to 2**32 - 1, "
                             "seeds that are equal mod 2**32 draw the same text")


def seed_list(seed, n):
    """n different seeds: `seed`, then those that random.Random(seed) draws below 100,000.

    1337 begins with the write-up's five. Raises ValueError for a seed from 2**32 on.
    """
    if not 1 <= n <= 50_000:  # half of what there is to draw, so that most draws are new ones
        raise ValueError(f"{n} seeds were asked for, expected 1 to 50,000")
    check_seeds([seed])
    seeds = dict.fromkeys([1337, 2658, 8932, 2179, 9671] if seed == 1337 else [seed])  # keeps their order
    rng = random.Random(seed)
    while len(seeds) < n:
        seeds[rng.randrange(100_000)] = None
    return list(seeds)[:n]
