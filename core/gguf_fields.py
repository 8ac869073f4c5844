"""
The metadata of a GGUF file -> the fields of a GPT.

The keys are those of ggml's docs/gguf.md.
"""
import math
import os

import torch

from core.families import checked_fields, of_llama

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
        shown = value if isinstance(value, (int, float, str)) else f'an array of {len(value)}'
        raise ValueError(f"{file.path!r} has {shown!r} as {key}, expected {kind.__name__}")
    return value


def check_computed(file, kind):
    """Raises ValueError for what would be computed otherwise than the model means it."""
    if kind not in ARCHITECTURES:
        raise ValueError(f"{file.path!r} is of the architecture {kind!r}, expected one of "
                         f"{', '.join(map(repr, ARCHITECTURES))}")
    if wanted(file, 'general.type', str, 'model') != 'model':
        raise ValueError(f"{file.path!r} holds no model but {file.metadata['general.type']!r}: give the "
                         "model's own file")
    if file.metadata.get('split.count', 0) not in (0, 1):
        raise ValueError(f"{file.path!r} is one of {file.metadata['split.count']} parts: put them together "
                         "with llama.cpp's "
                         "llama-gguf-split --merge")
    for key, neutral in NEUTRAL.items():
        value = file.metadata.get(f'{kind}.{key}')
        if value is not None and not (isinstance(value, (int, float, str)) and value in neutral):
            raise ValueError(f"{file.path!r} has {kind}.{key}={value!r}, which is not computed here: take "
                             "a model without it")
    window = file.metadata.get(f'{kind}.attention.sliding_window', 0)
    context = file.metadata.get(f'{kind}.context_length', 0)
    if window != 0 and (type(window) is not int or type(context) is not int or window < context):
        raise ValueError(f"{file.path!r} has a sliding window of {window!r} in a context of {context!r} "
                         "tokens, which is not "
                         "computed here: take a model without it")


def rotary_of(file, kind, head_size):
    """-> fields of GPTConfig for rotary positions."""
    turned = wanted(file, f'{kind}.rope.dimension_count', int, head_size)
    if turned != head_size:
        raise ValueError(f"{file.path!r} turns {turned} of the {head_size} numbers of a head, only all are "
                         "computed here")
    theta = wanted(file, f'{kind}.rope.freq_base', float, 10000.0)
    factors = torch.ones(head_size // 2)
    if 'rope_freqs.weight' in file.places:
        factors = file['rope_freqs.weight']
    positive = ((factors > 0) & factors.isfinite()).all() and 0 < theta < math.inf
    if factors.shape != (head_size // 2,) or not positive:
        raise ValueError(f"{file.path!r} has rotary positions that are none (rope.freq_base {theta}, "
                         f"rope_freqs.weight of the shape {tuple(factors.shape)}): expected numbers above "
                         f"0, {head_size // 2} factors")
    return {'rope_theta': theta, 'rope_factors': () if (factors == 1).all() else tuple(factors.tolist())}
