"""
Checks of what a caller gives: whole numbers of Python, numpy or torch, indices, choices, ranges. All raise
ValueError.
"""
import operator


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


def check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}")


def check_range(name, value, highest):
    if not 0 <= value <= highest:
        raise ValueError(f"{name} is {value}, expected a number from 0 to {highest:g}")
