"""
Writing: from a prompt to a text, a token a step.

B batch, T tokens of the prompt.
"""
import math
import operator

import torch

from core.sampling import check_seeds, sample


def generators_of(seeds, idx):
    """A generator for each row of idx (B, T), or None for torch's global one.

    Raises ValueError for seeds that do not fit.
    """
    if seeds is None:
        return None
    seeds = [operator.index(seed) for seed in seeds]
    if len(seeds) != len(idx):
        raise ValueError(f"{len(seeds)} seeds were given for {len(idx)} rows: give one per row, or None")
    check_seeds(seeds)
    return [torch.Generator(idx.device).manual_seed(seed) for seed in seeds]


def check_writing(max_new_tokens, temperature, top_k):
    """Raises ValueError for a setting out of range."""
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}, expected 0 or more")
    if not 1e-6 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}, expected a number above 0, from 1e-6 on "
                         "(top_k=1 is greedy)")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}, expected 1 or more, or None for the whole vocabulary")


def check_ids(idx, vocab_size):
    """Raises ValueError unless idx (B, T) holds at least one token, and only ids of the vocabulary."""
    if idx.numel() == 0:
        raise ValueError("no tokens: give at least one")
    low, high = idx.min().item(), idx.max().item()
    if low < 0 or high >= vocab_size:
        raise ValueError(f"token id {low if low < 0 else high} is outside the vocabulary of {vocab_size}: "
                         "the tokenizer is not this model's")


def write(newest_logits, cache, idx, max_new_tokens, temperature, top_k, generators, renew=None):
    """Continues idx (B, T) -> (B, T + max_new_tokens).

    newest_logits(chunk, cache) -> (B, vocab_size) of the chunk's last row. Past the cache's size the context
    is cropped from the left, as in nanoGPT, and computed anew at each step. renew(idx, step) -> a cache to go
    on with from that step on, None is the one before.
    """
    for step in range(max_new_tokens):
        cache = renew and renew(idx, step) or cache
        context = idx[:, cache.offset:]  # what is before stands in the cache's front
        if context.size(1) > cache.size:
            cache.restart()
        chunk = context[:, -cache.size:][:, cache.length:]
        # one prompt for all rows: it runs once
        shared = step == 0 and len(chunk) > 1 and (chunk == chunk[0]).all().item()
        logits = newest_logits(chunk[:1] if shared else chunk, cache)
        if shared:
            cache.expand(len(chunk))
            logits = logits.expand(len(chunk), -1)
        idx = torch.cat((idx, sample(logits, temperature, top_k, generators)), dim=1)
    return idx
