"""
Texts of many seeds, and the work that they took.
"""
import time
from collections import Counter
from dataclasses import dataclass

from core.generation import before_end


@dataclass(frozen=True)
class Drawing:
    """How texts are drawn: one a seed, batch_size of them at once; of top_k likeliest tokens, 0 is all; each
    up to one of end_ids."""
    seeds: tuple
    temperature: float = 0.8
    top_k: int = 200
    batch_size: int = 100
    end_ids: tuple = ()


def write(model, idx, new_tokens, drawing):
    """idx (1, T) -> up to new_tokens a seed, as lists of ids, with the one that ends a text, and the work
    that they took."""
    rows, steps, searches, picks, started = [], 0, Counter(), Counter(), time.perf_counter()
    for first in range(0, len(drawing.seeds), drawing.batch_size):
        seeds = list(drawing.seeds[first:first + drawing.batch_size])
        prompts = idx.expand(len(seeds), -1)
        y = model.generate(prompts, new_tokens, drawing.temperature, drawing.top_k or None, seeds,
                           drawing.end_ids)[:, idx.size(1):]
        rows += [row[:len(before_end(row, drawing.end_ids)) + 1] for row in y.tolist()]
        steps += y.numel()
        searches.update(model.searches)
        picks.update(model.picks)
    return rows, {'searches_per_step': {layer: count / steps for layer, count in searches.items()},
                  'picks_per_step': {layer: count / steps for layer, count in picks.items()},
                  'tokens_per_second': steps / (time.perf_counter() - started)}


def texts_of(tokenizer, rows, drawing):
    """Rows of `write` as texts, without the tokens that end them."""
    return [tokenizer.decode(before_end(row, drawing.end_ids)) for row in rows]
