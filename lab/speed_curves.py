"""
How the time of one token grows: with the length of the context, and with the size of the memory.
"""
import copy
import statistics
from collections import namedtuple

import torch
from tqdm import tqdm

from core.cache import Cache
from core.sampling import sample
from lab.speed_clock import ratio, seconds, spread
from lab.speed_library import heads_of
from lab.speed_setup import (
    EACH,
    LATE,
    TEMPERATURE,
    TOP_K,
    our_model,
    random_ids,
    random_memory,
    reading_layers,
    readings,
)
from memory import PersistentMemory, describe
from reader import Reading

CONTEXT_OF_MEMORY_CURVE = 256  # tokens
RECALLED = 200  # tokens of the text that method 5 has in front, where the context has room for it
# walk(): writes one token more -> seconds; searched: for each token, the look-ups of the busiest layer
Walker = namedtuple('Walker', 'walk searched')


def walker(model, idx, n, seed, memory=None, reading=None):
    """Has read idx (1, T) and can write n tokens more."""
    # the same weights, a memory of its own: contenders take turns, and each goes on with its own cache
    model = copy.copy(model)
    if memory is not None:
        model.attach(memory, reading)
    cache, searched = Cache(idx.size(1) + n), []
    generators = [torch.Generator(idx.device).manual_seed(seed)]

    @torch.no_grad()
    def step(tokens):
        logits, _ = model(tokens, cache=cache)
        sample(logits[:, -1], TEMPERATURE, TOP_K, generators)
        searched.append(max(cache.searches.values(), default=0))

    step(idx)
    searched.clear()
    return Walker(lambda: seconds(lambda: step(idx[:, :1])), searched)


def point(model, T, M, setup):
    """Times a token and searches at a context of T tokens and M stored, the contenders taking turns."""
    n, idx = steps_of_a_curve(model.config.block_size, setup), random_ids(T, setup)
    memory = random_memory(model, M, reading_layers(setup, model.config.n_layer), setup.seed)
    ways = readings(setup, model.config.n_layer)
    walkers = {'plain': walker(model, idx, n, setup.seed)}
    walkers |= {name: walker(model, idx, n, setup.seed, memory, ways[name])
                for name in (EACH, LATE, 'method 4')}
    if RECALLED + T + n <= model.config.block_size:
        heads = heads_of(model.config, setup)
        text = PersistentMemory(describe(model), (), 1, '', heads, 'tokens')
        text.add(model, random_ids(RECALLED, setup)[0].tolist(), '', '')
        walkers['method 5'] = walker(model, idx, n, setup.seed, text,
                                     Reading(layers=(), method=5, index_heads=heads))
    times = {name: [] for name in walkers}
    for _ in range(n):
        for name, one in walkers.items():
            times[name].append(one.walk())
    return {'context': T, 'stored_tokens': M, 'ms': {name: spread(t, 1000) for name, t in times.items()},
            'of_plain': {name: ratio(times, name, 'plain') for name in times},
            'searches': {name: statistics.fmean(one.searched) for name, one in walkers.items()}}


def steps_of_a_curve(block_size, setup):
    """Tokens at each point, so few that they leave most of the context to the prompt."""
    return min(4 * setup.repeats, block_size // 4)


def measure_curves(folder, setup, contexts):
    model = our_model(folder, setup)
    longest = model.config.block_size - steps_of_a_curve(model.config.block_size, setup) - 1
    points = {'context': [(min(T, longest), setup.stored_tokens[0]) for T in contexts],
              'memory': [(min(CONTEXT_OF_MEMORY_CURVE, longest // 2), M) for M in setup.curve_tokens]}
    curves = {name: [point(model, T, M, setup) for T, M in tqdm(some, 'curve', leave=False)]
              for name, some in points.items()}
    for name, rows in curves.items():
        print_curve(name, rows)
    return curves


def print_curve(name, rows):
    print(f"\none row, by {name}: ms a token, searches a token in the busiest layer")
    for row in rows:
        cells = ', '.join(f"{contender} {ms[0]:.2f} ({row['searches'][contender]:.1f})"
                          for contender, ms in row['ms'].items())
        print(f"  context {row['context']:5}, {row['stored_tokens']:7} stored: {cells}", flush=True)
