"""
From the start of a program to its first token, and what each part of it takes.

$ python -m lab.speed_start MODEL THREADS     # what bench.py starts, a process a round
"""
import json
import os
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROMPT_IDS = tuple(range(1, 17))


def measure_start(folder, setup):
    """-> {part: seconds, median and quartiles} of processes that write one token behind 16, a GGUF file where
    the folder has one; the first does not count, whose files are not in memory yet."""
    import torch

    from lab.speed_clock import spread
    from lab.speed_setup import GGUF
    file = os.path.join(folder, GGUF)
    name = file if os.path.exists(file) else folder
    rounds = [started(name, torch.get_num_threads()) for _ in range(setup.repeats + 1)][1:]
    table = {part: spread([one[part] for one in rounds]) for part in rounds[0]}
    print("\nfrom the start of a program to its first token, seconds [quartiles]")
    for part, (median, low, high) in table.items():
        print(f"  {part:30}{median:7.2f} [{low:.2f} {high:.2f}]", flush=True)
    return table


def started(name, threads):
    began = time.time()
    done = subprocess.run([sys.executable, '-m', 'lab.speed_start', name, str(threads)], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    times = json.loads(done.stdout.splitlines()[-1])
    names = 'python', 'import of torch', 'import of the rest', 'model and tokenizer', 'first token'
    found = {part: end - begin for part, begin, end in zip(names, [began, *times], times)}
    return {**found, 'all': times[-1] - began}


def main(name, threads):
    times = [time.time()]
    import torch
    times.append(time.time())
    from load import load_model
    torch.set_num_threads(int(threads))
    times.append(time.time())
    model, _ = load_model(name, device='cpu')
    times.append(time.time())
    model.generate(torch.tensor([PROMPT_IDS]), 1, top_k=1)
    print(json.dumps([*times, time.time()]))


if __name__ == '__main__':
    main(*sys.argv[1:])
