"""
From the start of a program to its first token, and what each part of it takes; loading in each dtype, and its
peak memory.

$ python -m lab.speed_start MODEL THREADS DTYPE     # what bench.py starts, a process a round
"""
import json
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROMPT_IDS = tuple(range(1, 17))
DTYPES = 'float32', 'bfloat16', 'int8', 'int4'
PARTS = 'python', 'import of torch', 'import of the rest', 'model', 'tokenizer', 'first token'


def measure_start(folder, setup):
    """-> {part: seconds, median and quartiles} of processes that write one token behind 16, a GGUF file where
    the folder has one; under 'loading' {dtype: seconds, and megabytes at the peak over what the libraries
    take, and of weights}. The first rounds do not count, whose files are not in memory yet."""
    import torch

    from lab.speed_clock import spread
    from lab.speed_setup import GGUF
    file = os.path.join(folder, GGUF)
    name = file if os.path.exists(file) else folder
    rounds = [{dtype: started(name, torch.get_num_threads(), dtype) for dtype in DTYPES}
              for _ in range(setup.repeats + 1)][1:]
    table = {part: spread([one['float32'][part] for one in rounds]) for part in (*PARTS, 'all')}
    print("\nfrom the start of a program to its first token, seconds [quartiles]")
    for part, (median, low, high) in table.items():
        print(f"  {part:30}{median:7.2f} [{low:.2f} {high:.2f}]", flush=True)
    table['loading'] = {dtype: {'seconds': spread([one[dtype]['model'] for one in rounds]),
                                **{key: statistics.median(one[dtype][key] for one in rounds)
                                   for key in ('peak_mb', 'weights_mb')}} for dtype in DTYPES}
    print("loading a model: seconds, MB at the peak over what the libraries take, MB of weights, their ratio")
    for dtype, row in table['loading'].items():
        print(f"  {dtype:10}{row['seconds'][0]:7.2f}{row['peak_mb']:8.0f}{row['weights_mb']:8.0f}"
              f"{row['peak_mb'] / row['weights_mb']:7.2f}", flush=True)
    return table


def started(name, threads, dtype):
    """-> {part: seconds}, with `all`, and `peak_mb`, `weights_mb`."""
    began = time.time()
    done = subprocess.run([sys.executable, '-m', 'lab.speed_start', name, str(threads), dtype], cwd=ROOT,
                          check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    times = found.pop('times')
    parts = {part: end - begin for part, begin, end in zip(PARTS, [began, *times], times)}
    return {**parts, 'all': times[-1] - began, **found}


def main(name, threads, dtype):
    times = [time.time()]
    import torch
    times.append(time.time())
    import load
    from core import weights
    from core.packed import megabytes
    from lab.speed_memory import resident
    torch.set_num_threads(int(threads))
    times.append(time.time())
    given = weights.load(name)  # names and sizes, by the libraries that know them
    before = resident('VmRSS')
    model = load.GPT.of_weights(*given, dtype=getattr(torch, dtype))
    peak = resident() - before
    times.append(time.time())
    load.tokenizer_of_model(name, model.config.vocab_size)
    times.append(time.time())
    model.generate(torch.tensor([PROMPT_IDS]), 1, top_k=1)
    times.append(time.time())
    print(json.dumps({'times': times, 'peak_mb': peak, 'weights_mb': megabytes(model)}))


if __name__ == '__main__':
    main(*sys.argv[1:])
