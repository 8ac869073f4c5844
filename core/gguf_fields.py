"""
The metadata of a GGUF file -> the fields of a GPT.

The keys are those of ggml's docs/gguf.md.
"""
import os
import reprlib

from core.families import check_positive, checked_fields, of_llama

ARCHITECTURES = 'llama', 'qwen2', 'qwen3', 'gpt2'
# field of GPTConfig: key behind the architecture's name
SIZES = {'block_size': 'context_length', 'n_layer': 'block_count', 'n_embd': 'embedding_length',
         'n_inner': 'feed_forward_length', 'n_head': 'attention.head_count'}
# keys that change the computation, and the values with which they do not
NEUTRAL = {'expert_count': (0,), 'rope.scaling.type': ('none',), 'rope.scaling.factor': (1,),
           'rope.scale_linear': (1,), 'rope.scaling.attn_factor': (1,), 'rope.dimension_sections': (),
           'attention.scale': (), 'attn_logit_softcapping': (0,), 'final_logit_softcapping': (0,),
           'logit_scale': (0, 1), 'residual_scale': (1,), 'embedding_scale': (1,),
           'attention.causal': (True,), 'use_parallel_residual': (),
           'attention.clamp_kqv': (0,), 'attention.max_alibi_bias': (0,)}


def fields_of(file):
    """-> fields of GPTConfig.

    Raises ValueError for what model.py does not compute, and for what is missing.
    """
    kind = wanted(file, 'general.architecture', str)
    check_computed(file, kind)
    fields = {name: wanted(file, f'{kind}.{key}', int) for name, key in SIZES.items()}
    embedding = file.places.get('token_embd.weight')
    fields['vocab_size'] = wanted(file, f'{kind}.vocab_size', int, embedding.shape[0] if embedding else 1)
    fields['n_kv_head'] = wanted(file, f'{kind}.attention.head_count_kv', int, fields['n_head'])
    width = fields['n_embd'] // max(1, fields['n_head'])
    fields['head_size'] = wanted(file, f'{kind}.attention.key_length', int, width)
    value_size = wanted(file, f'{kind}.attention.value_length', int, fields['head_size'])
    if value_size != fields['head_size']:
        raise ValueError(f"{file.path!r} has values of {value_size} and keys of {fields['head_size']}, "
                         "which is not computed here")
    fields |= {'tied': 'output.weight' not in file.places, 'qk_norm': kind == 'qwen3',
               'name': os.path.basename(file.path)}
    if kind == 'gpt2':
        epsilon = wanted(file, 'gpt2.attention.layer_norm_epsilon', float)
        return checked_fields({**fields, **of_gpt2(), 'layer_norm_epsilon': epsilon}, file.path)
    epsilon = wanted(file, f'{kind}.attention.layer_norm_rms_epsilon', float)
    parts = {'bias_attn': 'attn_q', 'bias_proj': 'attn_output', 'bias_mlp': 'ffn_up'}
    biases = {field: f'blk.0.{part}.bias' in file.places for field, part in parts.items()}
    fields = checked_fields({**fields, **of_llama(), **biases, 'layer_norm_epsilon': epsilon}, file.path)
    return {**fields, **rotary_of(file, kind, fields['head_size'])}


def of_gpt2():
    return {'mlp': 'gelu_new', 'norm': 'layer', 'position': 'learned', 'bias': True,
            'bias_attn': False, 'bias_proj': False, 'bias_mlp': False}


def wanted(file, key, kind, default=None):
    """The metadata at a key, of this type.

    Raises ValueError where it is another, or missing and has no default.
    """
    value = file.metadata.get(key, default)
    if value is None:
        raise ValueError(f"{file.path!r} has no {key}: it is no language model's, or was converted in part")
    if type(value) is not kind:
        raise ValueError(f"{file.path!r} has {shown(value)} as {key}, expected {kind.__name__}")
    return value


def shown(value):
    """Metadata in a few words of one line."""
    return reprlib.repr(value) if is_single(value) else f'an array of {len(value)}'


def is_single(value):
    return isinstance(value, (int, float, str))


def check_computed(file, kind):
    """Raises ValueError for what would be computed otherwise than the model means it."""
    if kind not in ARCHITECTURES:
        raise ValueError(f"{file.path!r} is of the architecture {shown(kind)}, expected one of "
                         f"{', '.join(map(repr, ARCHITECTURES))}")
    what, parts = wanted(file, 'general.type', str, 'model'), wanted(file, 'split.count', int, 1)
    if what != 'model':
        raise ValueError(f"{file.path!r} holds no model but {shown(what)}: give the model's own file")
    if parts not in (0, 1):
        raise ValueError(f"{file.path!r} is one of {parts} parts: put them together with llama.cpp's "
                         "llama-gguf-split --merge")
    for key, neutral in NEUTRAL.items():
        value = file.metadata.get(f'{kind}.{key}')
        if value is not None and not (is_single(value) and value in neutral):
            raise ValueError(f"{file.path!r} has {kind}.{key}={shown(value)}, which is not computed here: "
                             "take a model without it")
    window = wanted(file, f'{kind}.attention.sliding_window', int, 0)
    context = wanted(file, f'{kind}.context_length', int)
    if 0 != window < context:
        raise ValueError(f"{file.path!r} has a sliding window of {window} in a context of {context} tokens, "
                         "which is not computed here: take a model without it")


def rotary_of(file, kind, head_size):
    """-> fields of GPTConfig for rotary positions."""
    turned = wanted(file, f'{kind}.rope.dimension_count', int, head_size)
    if turned != head_size:
        raise ValueError(f"{file.path!r} turns {turned} of the {head_size} numbers of a head, only all are "
                         "computed here")
    theta = wanted(file, f'{kind}.rope.freq_base', float, 10000.0)
    check_positive(f'{kind}.rope.freq_base', theta, file.path)
    if 'rope_freqs.weight' not in file.places:
        return {'rope_theta': theta}
    factors = file['rope_freqs.weight']
    if factors.shape != (head_size // 2,) or not ((factors > 0) & factors.isfinite()).all():
        raise ValueError(f"{file.path!r} has a rope_freqs.weight that is none: its shape is "
                         f"{tuple(factors.shape)}, expected {head_size // 2} numbers above 0")
    return {'rope_theta': theta, 'rope_factors': () if (factors == 1).all() else tuple(factors.tolist())}
