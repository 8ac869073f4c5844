"""
Checks of what a caller or a file gives: whole numbers of Python, numpy or torch, indices, choices, ranges,
finite numbers. What is wrong raises ValueError.
"""
import operator

import torch

FLOATS = torch.float64, torch.float32, torch.float16, torch.bfloat16


def whole_numbers(kind, given):
    """One whole number or several -> a tuple of int."""
    if not hasattr(given, '__iter__') or getattr(given, 'ndim', 1) == 0:
        given = (given,)
    return tuple(whole_number(kind, one) for one in given)


def whole_number(name, given):
    try:
        if isinstance(given, bool):  # True is an int to Python, but nobody means layer True
            raise TypeError
        return operator.index(given)
    except TypeError:
        raise ValueError(f"{name} is {given!r}, expected a whole number") from None


def check_indices(kind, given, count):
    """`given` are different numbers in [0, count)."""
    for i in given:
        if not 0 <= i < count:
            raise ValueError(f"{kind} {i} does not exist: the model's {kind}s are 0 to {count - 1}")
    if len(set(given)) < len(given):
        raise ValueError(f"a {kind} is named twice in {given}: name each once")


def pairs_of_heads(given, n_layer, n_head):
    """((layer, head), ...) -> the same as tuples of int, sorted. Raises ValueError for what is none."""
    pairs = [whole_numbers('index_heads', pair) for pair in given]
    for pair in pairs:
        if len(pair) != 2:
            raise ValueError(f"index_heads holds {pair}, expected pairs (layer, query head), e.g. ((17, 3),)")
        check_indices('layer', pair[:1], n_layer)
        check_indices('head', pair[1:], n_head)
    return tuple(sorted(set(pairs)))


def check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}")


def check_least(name, value, lowest):
    if value < lowest:
        raise ValueError(f"{name} is {value}, expected {lowest} or more")


def check_range(name, value, highest):
    if not 0 <= value <= highest:
        raise ValueError(f"{name} is {value}, expected a number from 0 to {highest:g}")


def all_finite(tensor):
    """Whether all numbers are, from the lowest and highest alone: 20 times as fast as looking at each."""
    return tensor.numel() == 0 or bool(torch.stack(tensor.aminmax()).isfinite().all())


def in_float32(w, name, source):
    """A tensor of a model's file -> float32. ValueError for numbers that are none, or codes for numbers."""
    if w.dtype not in FLOATS:
        raise ValueError(f"{name} of {source!r} is in {str(w.dtype).removeprefix('torch.')}, expected "
                         "float32, float16 or bfloat16: quantised weights are not computed here")
    w = w.float()
    if not all_finite(w):
        broken = int((~w.isfinite()).sum())
        raise ValueError(f"{name} of {source!r} holds at least {broken} numbers that are infinite or "
                         "none at all: it is damaged, or the training that wrote it went astray, take an "
                         "earlier checkpoint")
    return w
