"""
A new model takes its weights, some rows at a time: the numbers of a file are never in memory as a whole.
"""
import torch
from torch import nn

from core.identity import Fingerprint, Sample, of_samples
from core.packed import Linear, blocks_of


def fill(model, state, device, dtype, rounded=None):
    """state: {name: float32 tensor, or core.lazily.OnFile} -> fingerprint and sampled_fingerprint of these.

    dtype: of what is not rounded; rounded: torch.int8 or torch.int4, of the products' weights. Raises
    ValueError for names or shapes that are not the model's.
    """
    shapes = {name: tuple(p.shape) for name, p in model.named_weights()}
    names, found = sorted(shapes), Fingerprint()
    odd = sorted(({*names} ^ {*state}) - ({'lm_head.weight'} if model.config.tied else set()))
    if odd:
        raise ValueError(f"the weights are not this model's: {odd[0]} is "
                         f"{'missing' if odd[0] in names else 'none of its own'}")
    # room for all that stays first, so that what comes and goes leaves no holes
    samples = {name: Sample(name, shape) for name, shape in shapes.items()}
    puts = {name: room_for(model, name, device, dtype, rounded) for name in names}
    for name in names:
        w = state[name]
        if tuple(w.shape) != shapes[name]:
            raise ValueError(f"{name} has the shape {tuple(w.shape)}, the model's is {shapes[name]}")
        found.begin(name, shapes[name])
        for rows in blocks_of(shapes[name]):
            some = w[rows]
            found.add(some)
            samples[name].add(some)
            puts[name](rows, some)
    return found.hexdigest(), of_samples(samples.values())


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
