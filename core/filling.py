"""
A new model takes its weights, some rows at a time: the numbers of a file are never in memory as a whole.
"""
import math

import torch
from torch import nn

from core.identity import Fingerprint
from core.packed import Linear

NUMBERS_AT_ONCE = 2**20  # read, hashed, and cast or rounded


def fill(model, state, device, dtype, rounded=None):
    """state: {name: float32 tensor, or core.lazily.OnFile} -> the Fingerprint of these numbers.

    dtype: of what is not rounded; rounded: torch.int8 or torch.int4, of the products' weights. Raises
    ValueError for names or shapes that are not the model's.
    """
    shapes = {name: tuple(p.shape) for name, p in model.named_weights()}
    names, found = sorted(shapes), Fingerprint(shapes)
    odd = sorted(({*names} ^ {*state}) - ({'lm_head.weight'} if model.config.tied else set()))
    if odd:
        raise ValueError(f"the weights are not this model's: {odd[0]} is "
                         f"{'missing' if odd[0] in names else 'none of its own'}")
    # room for all of it first, so that what comes and goes leaves no holes
    puts = {name: room_for(model, name, device, dtype, rounded) for name in names}
    for name in names:
        w = state[name]
        if tuple(w.shape) != shapes[name]:
            raise ValueError(f"{name} has the shape {tuple(w.shape)}, the model's is {shapes[name]}")
        found.begin(name)
        for rows in blocks_of(shapes[name]):
            some = w[rows]
            found.add(some)
            puts[name](rows, some)
    return found


def blocks_of(shape):
    """Slices of rows."""
    size = max(1, NUMBERS_AT_ONCE // math.prod(shape[1:]))
    return (slice(first, first + size) for first in range(0, shape[0], size))


def room_for(model, name, device, dtype, rounded):
    """-> put(rows, numbers), which fills them in: a slice, and a tensor of float32."""
    module, _, kind = name.rpartition('.')
    layer, head = model.get_submodule(module), model.lm_head
    if rounded and kind == 'weight' and isinstance(layer, Linear):
        layer.make_room(rounded_of(model, layer, rounded), device)
        return layer.put
    p = nn.Parameter(torch.empty(getattr(layer, kind).shape, dtype=dtype, device=device), requires_grad=False)
    setattr(layer, kind, p)
    puts = [lambda rows, numbers: p[rows].copy_(numbers)]
    if layer is model.transformer.wte and model.config.tied:
        if rounded:
            head.make_room(rounded_of(model, head, rounded), device)
            puts.append(head.put)
        else:
            head.weight = p

    def put(rows, numbers):
        for one in puts:
            one(rows, numbers)
    return put


def rounded_of(model, layer, rounded):
    """Of int4 the head keeps more, as most GGUF files have it."""
    return torch.int8 if layer is model.lm_head else rounded
