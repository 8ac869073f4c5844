"""
Writing: from a prompt to a text, a token a step.

B batch, T tokens of the prompt.
"""
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from core.checks import whole_numbers
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


def check_end_ids(end_ids, vocab_size):
    """-> tuple of int. Raises ValueError for one that is outside the vocabulary."""
    end_ids = whole_numbers('an end id', end_ids)
    for i in end_ids:
        if not 0 <= i < vocab_size:
            raise ValueError(f"end_ids holds {i}, outside the vocabulary of {vocab_size}: the tokenizer is "
                             "not this model's")
    return end_ids


def before_end(ids, end_ids):
    """What a row's new tokens, a list of int, say: those in front of the first that ends it."""
    return ids[:next((n for n, i in enumerate(ids) if i in end_ids), len(ids))]


@dataclass(frozen=True)
class Writing:
    """How rows are continued: fields as the arguments of GPT.generate; generators: one a row, or None."""
    max_new_tokens: int
    temperature: float
    top_k: int | None
    generators: list | None
    end_ids: tuple = ()
    told: Callable | None = None

    def of(self, rows):
        """The same for some rows of the batch, by number."""
        return replace(self, generators=self.generators and [self.generators[b] for b in rows])


def write(newest_logits, cache, idx, writing, renew=None):
    """Continues idx (B, T) -> (B, T + n): n is max_new_tokens, or less where all rows have ended by then.

    newest_logits(chunk, cache) -> (B, vocab_size) of the chunk's last row. Past the cache's size the context
    is cropped from the left, see Cache.left, and computed anew. A row that has drawn one of end_ids goes on
    with it, for the others' sake. renew(idx, step) -> a cache to go on with from that step on, None is the
    one before.
    """
    ended, ends = torch.zeros_like(idx[:, :1], dtype=torch.bool), idx.new_tensor(writing.end_ids)
    for step in range(writing.max_new_tokens):
        cache = renew and renew(idx, step) or cache
        chunk = chunk_of(idx, cache)
        # one prompt for all rows: it runs once
        shared = step == 0 and len(chunk) > 1 and (chunk == chunk[0]).all().item()
        logits = newest_logits(chunk[:1] if shared else chunk, cache)
        if shared:
            cache.share(len(chunk))
            logits = logits.expand(len(chunk), -1)
        drawn = sample(logits, writing.temperature, writing.top_k, writing.generators)
        if writing.end_ids:
            drawn = torch.where(ended, idx[:, -1:], drawn)
            ended = torch.isin(drawn, ends)
        idx = torch.cat((idx, drawn), dim=1)
        if writing.told:
            writing.told(drawn)
        if writing.end_ids and ended.all():
            break
    return idx


def chunk_of(idx, cache):
    """Of idx (B, T) what the cache does not hold yet; all that stays in the context, where some has left."""
    gone = cache.left(idx.size(1))
    if gone > cache.gone:
        cache.restart()
        cache.gone = gone
    return idx[:, cache.offset + cache.gone + cache.length:]  # what is before stands in the cache's front
