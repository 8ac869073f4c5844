"""
Texts of many seeds, and the work that they took.
"""
import time
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Drawing:
    """How texts are drawn: one a seed, batch_size of them at once; of top_k likeliest tokens, 0 is all."""
    seeds: tuple
    temperature: float = 0.8
    top_k: int = 200
    batch_size: int = 100


def write(model, idx, new_tokens, drawing):
    """idx (1, T) -> new_tokens a seed, as lists of ids, and the work that they took."""
    rows, searches, picks, started = [], Counter(), Counter(), time.perf_counter()
    for first in range(0, len(drawing.seeds), drawing.batch_size):
        seeds = list(drawing.seeds[first:first + drawing.batch_size])
        prompts = idx.expand(len(seeds), -1)
        y = model.generate(prompts, new_tokens, drawing.temperature, drawing.top_k or None, seeds)
        rows += y[:, idx.size(1):].tolist()
        searches.update(model.searches)
        picks.update(model.picks)
    steps = new_tokens * len(drawing.seeds)
    return rows, {'searches_per_step': {layer: count / steps for layer, count in searches.items()},
                  'picks_per_step': {layer: count / steps for layer, count in picks.items()},
                  'tokens_per_second': steps / (time.perf_counter() - started)}
