"""
Measures the search in a memory: one flat FAISS index a head, as memory.py has it, beside one stacked product of torch.

$ python bench.py

Prints a table of medians, the contenders taking turns, and as its last line one JSON object.
"""
import json
import platform
import statistics
import time

from configurator import configure, one_line_errors

# -----------------------------------------------------------------------------
stored_tokens = (141, 10000, 100000)  # M, one table row each
rows = (1, 100)  # texts written at once, B
n_head = 12
head_size = 64
k = 5  # neighbours
repeats = 9
seed = 1337
# -----------------------------------------------------------------------------
config = configure(globals())

import faiss  # noqa: E402
import torch  # noqa: E402

from memory import PersistentMemory  # noqa: E402


def random_memory(M):
    """A memory of M random rows in one layer."""
    memory = PersistentMemory({'n_layer': 1, 'n_head': n_head, 'head_size': head_size, 'name': 'random'}, (0,))
    rows = torch.randn(n_head, M, head_size)
    memory._parts = {(kind, 0): [rows] for kind in ('keys', 'values')}
    memory.tokens = torch.zeros(M, dtype=torch.int64)
    return memory


def milliseconds(contenders):
    """{name: function} -> {name: median time in ms}; they take turns, after one round that does not count."""
    times = {name: [] for name in contenders}
    for _ in range(repeats + 1):
        for name, function in contenders.items():
            started = time.perf_counter()
            function()
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(t[1:]) for name, t in times.items()}


def search(M, B):
    """One reading layer's searches of one step: each of B rows looks up one token in each head."""
    memory = random_memory(M)
    heads, queries = torch.arange(n_head).repeat(B), torch.randn(B * n_head, head_size)
    stacked, keys = queries.view(B, n_head, -1).transpose(0, 1).contiguous(), memory.keys[0].transpose(1, 2)
    return milliseconds({'faiss': lambda: memory.search(0, heads, queries, k, 'product'), 'torch': lambda: (stacked @ keys).topk(k)})


def main():
    if min(*stored_tokens, *rows, n_head, head_size, k, repeats) < 1:
        raise ValueError("stored_tokens, rows, n_head, head_size, k and repeats must be 1 or more")
    torch.manual_seed(seed)
    machine = {'processor': platform.machine(), 'torch_threads': torch.get_num_threads(), 'faiss_threads': 1,
               'torch': torch.__version__, 'faiss': faiss.__version__}
    print(f"one layer's searches of one step, {n_head} heads of {head_size}, k {k}, median ms of {repeats}; {machine}")
    print(f"{'M':>8}{'rows':>6}{'faiss':>12}{'torch':>12}")
    results = []
    for M in stored_tokens:
        for B in rows:
            times = search(M, B)
            results.append({'M': M, 'rows': B, **times})
            print(f"{M:8}{B:6}{times['faiss']:12.3f}{times['torch']:12.3f}", flush=True)
    print(json.dumps({'search_ms': results, 'machine': machine, 'config': config}))


if __name__ == '__main__':
    with one_line_errors():
        main()
