"""
The kinds of values that a setting can have, and how a value becomes one of them.
"""
# how an error names each kind, and an example that is right in a shell and in a config file
KINDS = {bool: ('a bool', 'True'), int: ('an int', '5'), float: ('a float', '0.5'), str: ('a str', "'Cats'"),
         tuple: ('a tuple of ints', '9,10'), list: ('a list of dictionaries', "[{'memory_k': [1, 5]}]"),
         'pairs': ('pairs of ints', '((17,3),)')}
OF_PAIRS = ('index_heads',)


def fitted(name, value, default, origin=''):
    """The value as the kind that `default` is of. Raises ValueError that names the setting, and behind it
    `origin`."""
    kind = 'pairs' if name in OF_PAIRS else type(default)
    what, example = KINDS[kind]
    try:
        return as_kind(value, kind)
    except (TypeError, OverflowError):
        raise ValueError(f'{name}{origin} was given {value!r} ({type(value).__name__}), expected {what}, '
                         f'for example {name}={example}') from None


def as_kind(value, kind):
    """Raises TypeError for a value of another kind, OverflowError for an int too large for a float."""
    if hasattr(value, 'tolist'):  # NumPy's numbers and arrays, as config files compute them
        value = value.tolist()
    if kind is tuple:
        items = value if isinstance(value, (tuple, list, range)) else (value,)
        return tuple(as_kind(item, int) for item in items)
    if kind == 'pairs':
        if not isinstance(value, (tuple, list)) or not all(isinstance(pair, (tuple, list)) for pair in value):
            raise TypeError
        return tuple(as_kind(pair, tuple) for pair in value)
    if kind is list:
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, dict) for item in value):
            raise TypeError
        return list(value)
    accepted = {bool: int, float: (int, float)}.get(kind, kind)
    # True is an int to Python, but nobody means memory_k = True
    if not isinstance(value, accepted) or (value not in (0, 1) if kind is bool else isinstance(value, bool)):
        raise TypeError
    return kind(value)
