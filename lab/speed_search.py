"""
Speed of a search: FAISS, a head at a time, beside one product for all heads, and the rule that chooses.
"""
import torch

from lab.speed_clock import seconds, spread, take_turns
from lab.speed_setup import our_model, random_memory


def measure_search(folder, setup):
    """One layer's searches of one step: each of some rows looks up one token in each head."""
    model, table = our_model(folder, setup), []
    print("\nsearch, one layer, one look-up a head and row: stored tokens, rows, ms of candidates with "
          "FAISS, with one stacked product, ms of the whole search as it chooses")
    for M in setup.stored_tokens:
        index = random_memory(model, M, (0,), setup.seed).layer(0).keys
        for rows in sorted({work['rows'] for work in setup.workloads}):
            times = {name: spread(t, 1000) for name, t in search_times(index, rows, setup).items()}
            table.append({'stored_tokens': M, 'rows': rows, **times})
            print(f"  {M:8}{rows:5}" + ''.join(f"{ms[0]:10.3f}" for ms in times.values()), flush=True)
    return table


def search_times(index, rows, setup):
    """Of an Index, the candidates by both ways and the search whole; the one place that knows its inside."""
    g = torch.Generator().manual_seed(setup.seed)
    heads = torch.arange(index.n_head).repeat_interleave(rows)
    queries = torch.randn(len(heads), index.head_size, generator=g)
    counts, k = heads.bincount(), min(setup.memory_k, len(index))
    there = counts.to(setup.device), rows, queries.to(setup.device)
    ways = {'faiss': lambda: index._faiss(counts, queries, k, 'l2'),
            'stacked': lambda: index._stacked(*there, k, 'l2'),
            'chosen': lambda: index.search(heads.to(setup.device), there[-1], k)}
    timed = {name: lambda way=way: seconds(way) for name, way in ways.items()}
    return take_turns(timed, 'search', setup.repeats)
