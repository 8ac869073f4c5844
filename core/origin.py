"""
Which model wrote a memory: what a memory keeps of it, and what must agree.
"""
# what must agree, and what messages call it: sizes first, since they say more than a fingerprint
FIELDS = {'n_head': 'n_head', 'n_kv_head': 'n_kv_head', 'head_size': 'head size', 'n_layer': 'n_layer',
          'vocab_size': 'vocabulary', 'fingerprint': 'weights of fingerprint'}


def describe(model):
    """What a memory keeps of the model that wrote it."""
    c = model.config
    return {'name': c.name, 'n_layer': c.n_layer, 'n_head': c.n_head, 'n_kv_head': c.n_kv_head,
            'head_size': c.head_size, 'vocab_size': c.vocab_size, 'fingerprint': model.fingerprint()}


def key_heads(origin):
    """How many heads have keys of their own; files of models where all have do not say."""
    return origin.get('n_kv_head', origin['n_head'])


def index_key_heads(origin, index_heads):
    """((layer, query head), ...) -> {layer: its key heads that serve one of them}."""
    group, found = origin['n_head'] // key_heads(origin), {}
    for layer, head in index_heads:
        found.setdefault(layer, set()).add(head // group)
    return {layer: tuple(sorted(heads)) for layer, heads in found.items()}


def check_origin(origin, ours):
    """Raises ValueError, naming what differs, unless the model that `ours` describes is the origin."""
    origin = {**origin, 'n_kv_head': key_heads(origin)}
    for field, label in FIELDS.items():
        if origin[field] != ours[field]:
            raise ValueError(f"memory was written by {origin['name']!r} with {label} {origin[field]}, "
                             f"the model is {ours['name']!r} with {ours[field]}: "
                             "take that model, name another memory_file, or build the memory again with this "
                             "one (build_memory.py)")


def check_held(layers, held):
    """Raises ValueError unless a memory that holds some layers holds all of `layers`."""
    if not set(layers) <= set(held):
        raise ValueError(f"layers {tuple(layers)} cannot read: the memory holds layers {tuple(held)}, "
                         "build it with memory_layers that include those that read")


def origin_read(description, model, layers):
    """The origin of what is about to be read, as of today. Raises ValueError unless it is this model (None is
    not compared), and has these layers."""
    origin = description['origin']
    if model is None and description.get('format_version') == 1:
        raise ValueError("of format version 1, which only its model can read: load it with that and save it")
    if model is not None and description.get('format_version') == 1:
        # of samples of the weights then; from here on of all of them
        sampled = model.state.sampled_fingerprint(model)
        check_origin(origin, {**describe(model), 'fingerprint': sampled})
        origin = {**origin, 'fingerprint': model.fingerprint()}
    if model is not None:
        check_origin(origin, describe(model))
    if description['keep'] == 'values':  # else what is recalled has all of the model's layers
        check_held(layers, description['layers'])
    return origin
