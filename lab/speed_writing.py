"""
Speed of writing: contenders with and without a memory, beside Hugging Face and beside the machine's limits.
"""
import importlib.util
import os
import re
import statistics
from collections import namedtuple

import torch

from core.sampling import sample
from lab.speed_clock import ratio, seconds, spread, take_turns
from lab.speed_setup import (
    EACH,
    GGUF,
    LATE,
    TEMPERATURE,
    TOP_K,
    our_model,
    random_ids,
    random_memory,
    reading_layers,
    readings,
    their_model,
)

HALF, LLAMA = 'Hugging Face, bfloat16', 'llama.cpp'
AGAIN, AGAIN_LATE = 'everything again', f'everything again, {LATE}'
MAIN = EACH, 'last, method 3', LATE, 'method 4'  # readings, also of larger memories
WARM_TOKENS = 2  # of the round that does not count
HUGGING_FACE_TOKENS = 20  # a row, of many rows: without a shared prompt a round would take minutes
# take(n): writes n tokens a row, of the workload's own number at most -> seconds a row-token;
# searches(): {layer: a row-token} of its last run
Contender = namedtuple('Contender', 'take searches')


# ---- floors ----

def measure_floors(folder, setup):
    """The machine's limits, measured: reading the weights that a token needs, and a row's arithmetic."""
    # each matrix, the tied one once; of wpe a token needs one row
    named = our_model(folder, setup).named_weights()
    weights = sum(w.numel() for name, w in named if w.dim() == 2 and 'wpe' not in name)
    n = setup.floor_size or (2048 if setup.device == 'cpu' else 8192)
    numbers = torch.randn(weights, device=setup.device)
    square = torch.randn(n, n, device=setup.device)
    half = square.bfloat16()
    times = take_turns({'read': lambda: seconds(numbers.sum),
                        'float32': lambda: seconds(lambda: square @ square),
                        'bfloat16': lambda: seconds(lambda: half @ half)}, 'floors', setup.repeats)
    bandwidth = numbers.numel() * 4 / statistics.median(times['read'])
    rates = {dtype: 2 * n**3 / statistics.median(times[dtype]) for dtype in ('float32', 'bfloat16')}
    rates['bfloat16'] = max(rates.values())  # of a processor without such products they are float32's
    limits = {dtype: limit(weights, dtype, bandwidth, rate) for dtype, rate in rates.items()}
    for dtype, found in limits.items():
        print("  floor {}: one row {read_ms:.2f} ms a token ({weights_mb:.0f} MB at {bandwidth_gb_s:.1f} "
              "GB/s), many rows {arithmetic_ms:.2f} ms a row-token (at {matmul_gflop_s:.0f} GFLOP/s)"
              .format(dtype, **found), flush=True)
    return limits


def limit(weights, dtype, bandwidth, rate):
    """Of so many weights, at `bandwidth` bytes and `rate` operations a second."""
    size = weights * getattr(torch, dtype).itemsize
    return {'bandwidth_gb_s': bandwidth / 1e9, 'weights_mb': size / 1e6, 'read_ms': 1000 * size / bandwidth,
            'matmul_gflop_s': rate / 1e9, 'arithmetic_ms': 2000 * weights / rate}


# ---- contenders ----

def contenders(folder, work, setup):
    """{name: Contender} of a workload."""
    exact = our_model(folder, setup)
    layers, small = reading_layers(setup, exact.config.n_layer), setup.stored_tokens[0]
    ways = readings(setup, exact.config.n_layer)
    memories = {M: random_memory(exact, M, layers, setup.seed) for M in setup.stored_tokens}
    idx, found = random_ids(work['prompt'], setup), {}
    if work['rows'] == 1 or not is_long(work):
        found['Hugging Face'] = hugging_face(their_model(folder, setup), idx, work)
        found[HALF] = hugging_face(their_model(folder, setup, 'bfloat16'), idx, work)
    found[AGAIN] = again(exact, idx, work, setup.seed)
    found[AGAIN_LATE] = again(exact, idx, work, setup.seed, memories[small], ways[LATE])
    found |= llama_cpp(folder, idx, work)
    found['plain'] = ours(exact, idx, work)
    for name, M in readings_of(work, ways, setup):
        found[f'{name}, {M}'] = ours(exact, idx, work, memories[M], ways[name])
    for dtype in ('bfloat16', 'int8', 'int4') if setup.device == 'cpu' else ('bfloat16',):
        model = our_model(folder, setup, dtype)
        found[f'plain, {dtype}'] = ours(model, idx, work)
        found[f'{EACH}, {small}, {dtype}'] = ours(model, idx, work, memories[small], ways[EACH])
    return {name: contender for name, contender in found.items() if re.search(work.get('only', ''), name)}


def readings_of(work, ways, setup):
    """Which readings, of how many stored tokens: [(name, M)]. First all of them, then what tells most."""
    small, *larger = setup.stored_tokens
    larger = larger if work['rows'] == 1 else larger[:1]
    if work == setup.workloads[0]:
        return [(name, small) for name in ways] + [(name, M) for M in larger for name in MAIN]
    if work['rows'] == 1:
        return [(name, small) for name in (EACH, LATE, 'method 4')] + [(EACH, M) for M in larger]
    names = [EACH, LATE] if work.get('only') else [EACH]
    return [(name, small) for name in names] + [(EACH, M) for M in larger if is_long(work)]


def is_long(work):
    """Whether the prompt, which many rows share, is most of the work."""
    return work['prompt'] > 16


def ours(model, idx, work, memory=None, reading=None):
    """Our model, plain where no memory is given."""
    rows, new = work['rows'], work['new']

    def run(n):
        model.detach_memory()
        if memory is not None:
            model.attach(memory, reading)
        model.generate(idx.expand(rows, -1), n, TEMPERATURE, TOP_K, list(range(rows)))
    return Contender(lambda n=new: seconds(lambda: run(min(n, new))) / (rows * min(n, new)),
                     lambda: {layer: count / (rows * new) for layer, count in model.searches.items()})


def hugging_face(model, idx, work):
    rows, idx = work['rows'], idx.expand(work['rows'], -1).contiguous()
    new = work['new'] if rows == 1 else min(work['new'], HUGGING_FACE_TOKENS)
    settings = {'do_sample': True, 'temperature': TEMPERATURE, 'top_k': TOP_K, 'pad_token_id': 0,
                'attention_mask': torch.ones_like(idx)}

    def run(n):
        with torch.no_grad():
            model.generate(idx, max_new_tokens=n, min_new_tokens=n, **settings)
    return Contender(lambda n=new: seconds(lambda: run(min(n, new))) / (rows * min(n, new)), dict)


def llama_cpp(folder, idx, work):
    """{its name: Contender} that writes one row with the GGUF file; {} without one, or the package."""
    path, threads, new = os.path.join(folder, GGUF), torch.get_num_threads(), work['new']
    if work['rows'] > 1 or not os.path.exists(path) or importlib.util.find_spec('llama_cpp') is None:
        return {}
    from llama_cpp import Llama
    model = Llama(path, n_ctx=work['prompt'] + new, n_threads=threads, n_threads_batch=threads, verbose=False)

    def run(n):
        model.reset()  # else it keeps the prompt
        written = model.generate(idx[0].tolist(), TOP_K, 1.0, 0.0, temp=TEMPERATURE, repeat_penalty=1.0)
        for _ in range(n):
            next(written)
    return {LLAMA: Contender(lambda n=new: seconds(lambda: run(min(n, new))) / min(n, new), dict)}


def again(model, idx, work, seed, memory=None, reading=None):
    """The original's way of working: the whole context anew for each token, one row at a time.

    Timed at five lengths, first to last; with our weights and draw: the way of working alone is compared.
    """
    T, new = work['prompt'], work['new']
    whole = torch.cat((idx, idx.flip(1).repeat(1, new // T + 1)), dim=1)
    lengths = torch.linspace(T, T + new - 1, 5).long().tolist()

    @torch.no_grad()
    def run(some):
        model.detach_memory()
        if memory is not None:
            model.attach(memory, reading)
        for length in some:
            generators = [torch.Generator(idx.device).manual_seed(seed)]
            sample(model(whole[:, :length])[0][:, -1], TEMPERATURE, TOP_K, generators)
    return Contender(lambda n=5: seconds(lambda: run(lengths[:n])) / n, dict)


# ---- the measure ----

def measure_writing(folder, setup, works):
    """-> for each workload, what each contender took."""
    return [{**work, 'table': measure_workload(folder, work, setup)} for work in works]


def measure_workload(folder, work, setup):
    rows = f"{work['rows']} row{'s' * (work['rows'] > 1)}"
    label = f"{rows}, prompt {work['prompt']}, {work['new']} new tokens"
    looked_up = {}  # after its own run, a model knows what it searched
    running = {name: counted(contender, name, looked_up)
               for name, contender in contenders(folder, work, setup).items()}
    times = take_turns(running, label, setup.repeats, (WARM_TOKENS,))
    table = [row_of(name, times, looked_up[name]) for name in times]
    print_table(label, table)
    return table


def counted(contender, name, looked_up):
    def run(*warm):
        taken = contender.take(*warm)
        looked_up[name] = contender.searches()
        return taken
    return run


def row_of(name, times, searches):
    bases = {'of_plain': 'plain', 'of_hugging_face': 'Hugging Face',
             'of_hugging_face_bfloat16': HALF, 'of_llama_cpp': LLAMA, 'of_again': AGAIN,
             'of_again_last': AGAIN_LATE}
    ratios = {key: ratio(times, name, base) for key, base in bases.items()}
    return {'name': name, 'ms': spread(times[name], 1000), **ratios,
            'searches': max(searches.values(), default=0)}


def print_table(label, table):
    print(f"\n{label}: ms a row-token [quartiles]; times as fast as Hugging Face, the same in "
          "bfloat16, as llama.cpp, as everything again without a memory, as everything again with 'last'; "
          "time over plain; searches a row-token in the busiest layer")
    for row in table:
        ms, low, high = row['ms']
        faster = [f"{1 / row[key]:8.2f}" if row[key] else ' ' * 8
                  for key in ('of_hugging_face', 'of_hugging_face_bfloat16', 'of_llama_cpp', 'of_again',
                              'of_again_last')]
        of_plain = f"{row['of_plain']:8.2f}" if row['of_plain'] else ' ' * 8
        print(f"  {row['name']:44}{ms:9.2f} [{low:.2f} {high:.2f}]".ljust(76)
              + f"{''.join(faster)}{of_plain}{row['searches']:9.2f}", flush=True)
