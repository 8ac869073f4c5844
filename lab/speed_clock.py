"""
How bench.py takes times: contenders take turns, so that a busy machine slows all of them.
"""
import statistics
import time

import torch
from tqdm import tqdm

from lab.stats import quartiles


def seconds(function):
    """What one call takes; on a GPU, until its work is done."""
    started = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def take_turns(contenders, label, repeats, warm=()):
    """{name: function that returns its time} -> {name: [times]}, in turns, after a warming round.

    warm: what the functions are given in that round, to be quick.
    """
    times = {name: [] for name in contenders}
    for function in contenders.values():
        function(*warm)
    for _ in tqdm(range(repeats), label, leave=False):
        for name, function in contenders.items():
            times[name].append(function())
    return times


def spread(times, scale=1.0):
    """-> median and quartiles of some times, scaled."""
    found = quartiles(times)
    return [scale * found[name] for name in ('median', 'q1', 'q3')]


def ratio(times, name, base):
    """How many times as long as `base` does `name` take, or None."""
    return statistics.median(a / b for a, b in zip(times[name], times[base])) if base in times else None
