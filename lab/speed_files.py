"""
Building a memory and loading its file, and the peak memory of a process that writes.

$ python -m lab.speed_files ARGUMENTS     # what bench.py starts, a process a peak
"""
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile

import torch

from lab.speed_clock import ratio, seconds, spread, take_turns
from lab.speed_memory import resident
from lab.speed_setup import (
    EACH,
    TEMPERATURE,
    TOP_K,
    Setup,
    our_model,
    random_ids,
    random_memory,
    reading_layers,
    readings,
    their_model,
)
from memory import PersistentMemory

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHORT_TEXT = 90  # stored tokens of a file with all layers, as many as the write-up's
PEAK_TOKENS = 20  # written by a process whose peak memory is measured
PEAKS = 'Hugging Face', 'plain', 'each'  # each: with a memory of each of stored_tokens


def measure_building(folder, setup):
    """Tokens a second of a text of a whole context, kept for some layers, beside plain forward passes."""
    model, theirs = our_model(folder, setup), their_model(folder, setup)
    T, n_layer = model.config.block_size, model.config.n_layer
    idx = random_ids(T, setup)
    ids = idx[0].tolist()

    def building(layers):
        return lambda: seconds(lambda: PersistentMemory.from_tokens(model, ids, layers))

    times = take_turns({
        'plain forward': lambda: seconds(lambda: torch.no_grad()(model)(idx)),
        'Hugging Face forward': lambda: seconds(lambda: torch.no_grad()(theirs)(idx, logits_to_keep=1)),
        'three layers': building(reading_layers(setup, n_layer)),
        'all layers': building(range(n_layer))}, 'building', setup.repeats)
    table = {name: {'tokens_per_second': T / statistics.median(t),
                    'of_plain': ratio(times, 'plain forward', name)} for name, t in times.items()}
    print(f"\nbuilding a memory of a text of {T} tokens: tokens/s (over the plain forward pass)")
    for name, row in table.items():
        print(f"  {name:24}{row['tokens_per_second']:10.0f}{row['of_plain']:8.2f}")
    return table


def measure_loading(folder, setup):
    """Milliseconds to load a file, and the peak memory of processes that write."""
    model = our_model(folder, setup)
    all_layers, some = tuple(range(model.config.n_layer)), reading_layers(setup, model.config.n_layer)
    with tempfile.TemporaryDirectory() as files:
        kept = [(SHORT_TEXT, all_layers), *((M, some) for M in setup.stored_tokens)]
        table = [loading(model, M, layers, file_of(files, M), setup) for M, layers in kept]
        print("\nloading: stored tokens, layers, MB, ms [quartiles], ms for one layer of it")
        for row in table:
            ms, low, high = row['ms']
            print(f"  {row['stored_tokens']:8}{row['layers']:4}{row['mb']:10.1f}"
                  f"{ms:9.2f} [{low:.2f} {high:.2f}]{row['one_layer_ms'][0]:9.2f}")
        peaks = measure_peaks(folder, files, setup)
    return {'table': table, 'peak_mb': peaks}


def file_of(files, M):
    return os.path.join(files, f'{M}.safetensors')


def loading(model, M, layers, path, setup):
    """A row of the table: a file of M tokens in these layers, whole and one layer of it."""
    random_memory(model, M, layers, setup.seed).save(path)
    times = take_turns({'all': lambda: seconds(lambda: PersistentMemory.load(path, model)),
                        'one': lambda: seconds(lambda: PersistentMemory.load(path, model, layers[:1]))},
                       'loading', setup.repeats)
    return {'stored_tokens': M, 'layers': len(layers), 'mb': os.path.getsize(path) / 1e6,
            'ms': spread(times['all'], 1000), 'one_layer_ms': spread(times['one'], 1000)}


# ---- peak memory ----

def measure_peaks(folder, files, setup):
    """{name: MB}, of a process each."""
    wanted = setup.peaks.split(',') if setup.peaks else []
    paths = {name: '' for name in wanted if name != 'each'}
    if 'each' in wanted:
        paths |= {f'each, {M}': file_of(files, M) for M in setup.stored_tokens}
    peaks = {name: peak_of_its_own(folder, path, name == 'Hugging Face', setup)
             for name, path in paths.items()}
    print(f"peak memory of a process that writes {PEAK_TOKENS} tokens, MB: "
          + ', '.join(f"{name} {mb:.0f}" for name, mb in peaks.items()), flush=True)
    return peaks


def peak_of_its_own(folder, path, is_hugging_face, setup):
    """`peak` in a process of its own: one knows its highest only."""
    given = json.dumps([folder, path, is_hugging_face, dataclasses.asdict(setup)])
    paths = os.pathsep.join(filter(None, [ROOT, os.environ.get('PYTHONPATH')]))
    threads = str(torch.get_num_threads())  # as many as here
    run = subprocess.run([sys.executable, '-m', 'lab.speed_files', given], text=True, capture_output=True,
                         env={**os.environ, 'PYTHONPATH': paths, 'OMP_NUM_THREADS': threads})
    if run.returncode != 0:
        last = (run.stderr.splitlines() or ['killed'])[-1]
        raise OSError(f"the process that measures its memory ended early ({last}): free some memory")
    return float(run.stdout.split()[-1])


def peak(folder, path, is_hugging_face, setup):
    """Peak memory in MB, after writing: what this process had resident, or on a GPU what torch had there."""
    idx = random_ids(16, setup)
    if is_hugging_face:
        with torch.no_grad():
            their_model(folder, setup).generate(idx, max_new_tokens=PEAK_TOKENS, min_new_tokens=PEAK_TOKENS,
                                                pad_token_id=0, attention_mask=torch.ones_like(idx))
    else:
        model = our_model(folder, setup)
        if path:
            reading = readings(setup, model.config.n_layer)[EACH]
            model.attach(PersistentMemory.load(path, model, reading.layers), reading)
        model.generate(idx, PEAK_TOKENS, TEMPERATURE, TOP_K, [setup.seed])
    return torch.cuda.max_memory_allocated() / 2**20 if idx.is_cuda else resident()


if __name__ == '__main__':
    *where, given = json.loads(sys.argv[1])
    print(peak(*where, Setup(**given)))
