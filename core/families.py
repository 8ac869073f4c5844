"""
The families of model that model.py computes, and how files name their fields and tensors: Llama's (llama,
mistral, qwen2, qwen3) in Hugging Face's format, and the tensors of these and of GPT-2 in GGUF.

What would be computed otherwise than the model means it is refused by name, never loaded approximately.
Shapes: C n_embd, hs head size.
"""
import functools
import os
from reprlib import repr as short  # for messages: a file's values can be of any length

import torch

from core.lazily import Lazily, checked_against, float32_on_file, made_of

MOST_LAYERS = 10_000
LARGEST = 1e38  # of what becomes a float32
FAMILIES = 'llama', 'mistral', 'qwen2', 'qwen3'
# what a config.json may say that changes the computation, and the values with which it does not
NEUTRAL = {'pretraining_tp': (1,), 'partial_rotary_factor': (1,), 'quantization_config': (), 'auto_map': (),
           'num_local_experts': (0,), 'num_experts': (0,), 'n_routed_experts': (0,),
           'attn_logit_softcapping': (), 'final_logit_softcapping': (), 'logit_scale': (1,),
           'logits_scaling': (1,), 'attention_multiplier': (), 'embedding_multiplier': (1,),
           'residual_multiplier': (1,), 'use_bidirectional_attention': (False,), 'is_causal': (True,),
           'no_rope_layers': (), 'clip_qkv': (), 'pruned_heads': ({},), 'use_parallel_residual': (False,)}
# of Llama 3's rotary positions, in the order of GPTConfig's rope_scaling
SCALING = 'factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'
# the parts of a model: in Hugging Face's names, and in those of GGUF
HUGGING_FACE = {
    'wte': 'model.embed_tokens', 'ln_f': 'model.norm', 'head': 'lm_head', 'ln_1': 'input_layernorm',
    'q': 'self_attn.q_proj', 'k': 'self_attn.k_proj', 'v': 'self_attn.v_proj', 'q_norm': 'self_attn.q_norm',
    'k_norm': 'self_attn.k_norm', 'proj': 'self_attn.o_proj', 'ln_2': 'post_attention_layernorm',
    'gate': 'mlp.gate_proj', 'up': 'mlp.up_proj', 'down': 'mlp.down_proj'}
GGUF = {
    'wte': 'token_embd', 'wpe': 'position_embd', 'ln_f': 'output_norm', 'head': 'output',
    'ln_1': 'attn_norm', 'qkv': 'attn_qkv', 'q': 'attn_q', 'k': 'attn_k', 'v': 'attn_v',
    'q_norm': 'attn_q_norm', 'k_norm': 'attn_k_norm', 'proj': 'attn_output', 'ln_2': 'ffn_norm',
    'gate': 'ffn_gate', 'up': 'ffn_up', 'down': 'ffn_down'}


# ---- fields ----

def fields_of_hugging_face(given, source):
    """config.json, as a dictionary -> fields of GPTConfig.

    Raises ValueError for what model.py does not compute.
    """
    kind = given.get('model_type', 'nameless')
    if kind not in FAMILIES:
        raise ValueError(f"{source!r} is a {short(kind)} model, expected one of "
                         f"{', '.join(map(repr, FAMILIES))}")
    for name, neutral in NEUTRAL.items():
        if given.get(name) is not None and given[name] not in neutral:
            raise ValueError(f"{source!r} has {name}={short(given[name])}, which is not computed here: "
                             "take a model without it")
    n_layer = given.get('num_hidden_layers', 1)
    if type(n_layer) is not int or not 1 <= n_layer <= MOST_LAYERS:  # the library lists them at once
        raise ValueError(f"{source!r} has num_hidden_layers={short(n_layer)}, expected 1 to {MOST_LAYERS}")
    hf = config_of_library(kind, given, source)
    if hf.hidden_act not in ('silu', 'swish'):
        raise ValueError(f"{source!r} has hidden_act={short(hf.hidden_act)}, only 'silu' is computed here")
    check_window(hf, given, source)
    fields = {**sizes_of(hf), **biases_of(hf), **rotary_of(hf.rope_parameters, source),
              'layer_norm_epsilon': hf.rms_norm_eps, 'qk_norm': kind == 'qwen3',
              'tied': bool(hf.tie_word_embeddings),
              'name': os.path.basename(os.path.abspath(os.path.expanduser(source)))}
    return checked_fields({**of_llama(), **fields}, source)


def sizes_of(hf):
    sizes = {'block_size': hf.max_position_embeddings, 'vocab_size': hf.vocab_size,
             'n_layer': hf.num_hidden_layers, 'n_head': hf.num_attention_heads,
             'n_kv_head': hf.num_key_value_heads, 'n_embd': hf.hidden_size, 'n_inner': hf.intermediate_size}
    width = hf.hidden_size // max(1, hf.num_attention_heads)
    return {**sizes, 'head_size': getattr(hf, 'head_dim', None) or width}


def biases_of(hf):
    """Qwen2 has them on queries, keys and values alone, the others, where at all, on the projection too."""
    qwen2, biased = hf.model_type == 'qwen2', bool(getattr(hf, 'attention_bias', False))
    return {'bias_attn': qwen2 or biased, 'bias_proj': biased and not qwen2,
            'bias_mlp': bool(getattr(hf, 'mlp_bias', False))}


def of_llama():
    """What all of the family have in common."""
    return {'mlp': 'silu', 'norm': 'rms', 'position': 'rotary', 'bias': False}


def config_of_library(kind, given, source):
    """transformers' config, which knows each family's defaults, and the older names of fields."""
    from transformers import AutoConfig
    from transformers.utils import logging
    logging.set_verbosity_error()  # what matters of its warnings is checked here, and told in one line
    try:
        return AutoConfig.for_model(**{**given, 'model_type': kind})
    except Exception as error:  # its checks raise several types
        raise ValueError(f"the config.json of {source!r} is not that of a {kind!r} model: "
                         f"{' '.join(str(error).split())[:250]}") from None


def check_window(hf, given, source):
    """Raises ValueError where a layer does not see the whole context."""
    kinds = given.get('layer_types') or getattr(hf, 'layer_types', None) or ()
    kinds = set(map(str, kinds if isinstance(kinds, (list, tuple)) else [kinds]))
    if kinds - {'full_attention', 'sliding_attention'}:
        raise ValueError(f"{source!r} has layer_types of {short(min(kinds))}, only 'full_attention' is "
                         "computed here")
    slides = 'sliding_attention' in kinds or hf.model_type in ('llama', 'mistral')
    window = getattr(hf, 'sliding_window', None)  # the library's default, or what is given
    if slides and window is not None and not (type(window) is int and window >= hf.max_position_embeddings):
        raise ValueError(f"{source!r} has sliding_window={short(window)} in a context of "
                         f"{hf.max_position_embeddings} tokens, which is not computed here: take a model "
                         "without it, or set max_position_embeddings to that in its config.json")


def rotary_of(rope, source):
    """transformers' rope_parameters -> fields of GPTConfig.

    Raises ValueError for any scaling but Llama 3's.
    """
    kind, part = rope.get('rope_type', 'default'), rope.get('partial_rotary_factor', 1)
    if kind not in ('default', 'llama3'):
        raise ValueError(f"{source!r} has rotary positions of the type {short(kind)}, only 'default' and "
                         "'llama3' are computed here")
    if part not in (None, 1):
        raise ValueError(f"{source!r} has partial_rotary_factor={short(part)}, only 1 is computed here")
    numbers = [rope.get(name) for name in SCALING] if kind == 'llama3' else []
    for name, number in zip(('rope_theta', *SCALING), (rope.get('rope_theta'), *numbers)):
        check_positive(name, number, source)
    if numbers and numbers[1] >= numbers[2]:
        raise ValueError(f"{source!r} has low_freq_factor={numbers[1]}, expected less than its "
                         f"high_freq_factor, {numbers[2]}")
    return {'rope_theta': float(rope['rope_theta']), 'rope_scaling': tuple(numbers)}


def config_of_fields(c):
    """GPTConfig -> transformers' config of the family that has its norms and biases, for `save`.

    Whether that one holds all of its fields is for the caller to see, who reads it as loading does. Raises
    ValueError for sizes that transformers refuses.
    """
    kind = 'qwen3' if c.qk_norm else 'qwen2' if c.bias_attn and not c.bias_proj else 'llama'
    biases = {} if kind == 'qwen2' else {'attention_bias': c.bias_proj}
    if kind == 'llama':
        biases['mlp_bias'] = c.bias_mlp
    rope = {'rope_type': 'llama3' if c.rope_scaling else 'default', 'rope_theta': c.rope_theta,
            **dict(zip(SCALING, c.rope_scaling))}
    fields = dict(
        vocab_size=c.vocab_size, hidden_size=c.n_embd, intermediate_size=c.n_inner or 4 * c.n_embd,
        num_hidden_layers=c.n_layer, num_attention_heads=c.n_head, num_key_value_heads=c.n_kv_head,
        head_dim=c.head_size, max_position_embeddings=c.block_size, rms_norm_eps=c.layer_norm_epsilon,
        rope_parameters=rope, tie_word_embeddings=c.tied, architectures=[f'{kind.capitalize()}ForCausalLM'],
        bos_token_id=None, eos_token_id=None, **biases)
    return config_of_library(kind, fields, c.name)


def checked_fields(fields, source):
    """-> the same. Raises ValueError for sizes that no model has."""
    for name in ('block_size', 'vocab_size', 'n_layer', 'n_head', 'n_kv_head', 'head_size', 'n_embd',
                 'n_inner'):
        if not isinstance(fields[name], int) or isinstance(fields[name], bool) or fields[name] < 1:
            raise ValueError(f"{source!r} has {name}={short(fields[name])}, expected a whole number "
                             "from 1 on")
    if fields['n_head'] % fields['n_kv_head']:
        raise ValueError(f"{source!r} has {short(fields['n_kv_head'])} key heads, expected a divisor of its "
                         f"{short(fields['n_head'])} query heads")
    if fields['position'] == 'rotary' and fields['head_size'] % 2:
        raise ValueError(f"{source!r} has heads of {fields['head_size']}, expected an even size: rotary "
                         "positions turn halves")
    check_positive('layer_norm_epsilon', fields['layer_norm_epsilon'], source)
    return fields


def check_positive(name, number, source):
    if not isinstance(number, (int, float)) or isinstance(number, bool) or not 0 < number < LARGEST:
        raise ValueError(f"{source!r} has {name}={short(number)}, expected a number from 0 to {LARGEST}")


# ---- tensors ----

def state_of_hugging_face(tensors, fields, source):
    """{name: tensor} of a folder's files -> {name in GPT: OnFile in float32}, each anew at a look.

    Raises ValueError that names the tensor that does not fit, for its numbers when they are read.
    """
    # a constant that old files keep
    names = [name for name in tensors if not name.endswith('rotary_emb.inv_freq')]
    bare = 'embed_tokens.weight' in names  # saved without its head
    own = {f'model.{name}' if bare and not name.startswith('lm_head.') else name: name for name in names}
    tensors = Lazily({name: functools.partial(tensors.__getitem__, at) for name, at in own.items()})
    state = state_of(tensors, fields, HUGGING_FACE, 'model.layers', source, {'lm_head.weight'})
    if not fields['tied'] or 'lm_head.weight' not in tensors:
        return state

    def embedding():
        head = float32_on_file(tensors['lm_head.weight'], 'lm_head.weight', source)
        return checked_against(state['transformer.wte.weight'], head, (
            f"{source!r} has a lm_head.weight that is not its embedding, where its config.json says that "
            "they are one: put \"tie_word_embeddings\": false there if the head is meant"))
    return Lazily({**state.makers, 'transformer.wte.weight': embedding})


def tensors_of_state(state, fields):
    """State dict of GPT -> {name in Hugging Face's files: tensor}, the other way of state_of_hugging_face."""
    tensors = {}
    for name, parts in layout(fields, HUGGING_FACE, 'model.layers'):
        pieces = state[name].split([shape[0] for _, shape in parts])
        tensors |= dict(zip((part for part, _ in parts), pieces))
    return tensors


def state_of_gguf(tensors, fields, architecture, source):
    """As state_of_hugging_face, of a GGUF file, in PyTorch's order of axes."""
    if architecture == 'llama':
        tensors = Unpermuted(tensors, fields)
    return state_of(tensors, fields, GGUF, 'blk', source, {'rope_freqs.weight'})  # a field by now


class Unpermuted:
    """
    The tensors of a llama in GGUF with the rows of queries and keys as model.py has them.

    llama.cpp turns neighbours of a head together, numbers 2n and 2n + 1, model.py numbers n and n + hs/2:
    its converter reorders the rows.
    """

    def __init__(self, tensors, fields):
        self.tensors, self.half = tensors, fields['head_size'] // 2

    def __iter__(self):
        return iter(self.tensors)

    def __getitem__(self, name):
        w = self.tensors[name]
        permuted = {'attn_q', 'attn_k'} & set(name.split('.'))
        if not permuted or w.shape[0] % (2 * self.half):
            return w  # also one of another shape than it should be, which is told where all shapes are
        return made_of(w.shape, lambda: w[:].unflatten(0, (-1, self.half, 2)).transpose(1, 2).flatten(0, 2))


def state_of(tensors, fields, names, layers, source, optional):
    """tensors: names by iteration -> {name in GPT: OnFile}, but for a tied head. optional: may be there,
    unread."""
    there, makers = set(tensors), {}
    for name, parts in layout(fields, names, layers):
        for part, shape in parts:
            if part not in there:
                raise ValueError(f"the weights of {source!r} are incomplete: {part} is missing")
            check_shape(tensors[part], part, shape, source)
        there -= {part for part, _ in parts}
        makers[name] = functools.partial(joined, tensors, parts, source)
    surplus = sorted(there - optional)
    if surplus:
        raise ValueError(f"the weights of {source!r} hold {surplus[0]!r}, which nothing in its config takes: "
                         "it is of another architecture, or of a variant that is not computed here")
    return Lazily(makers)


def joined(tensors, parts, source):
    pieces = [float32_on_file(tensors[part], part, source) for part, _ in parts]
    if len(pieces) == 1:
        return pieces[0]
    shape = sum(piece.shape[0] for piece in pieces), *pieces[0].shape[1:]
    return made_of(shape, lambda: torch.cat([piece[:] for piece in pieces]))


def layout(fields, names, layers):
    """(name in GPT, its parts: ((name in the file, shape), ...)) of each parameter, in order.

    Parts stand one below the other.
    """
    C, vocab_size = fields['n_embd'], fields['vocab_size']
    outer = [('transformer.wte', {'wte': (vocab_size, C)}, False)]
    if fields['position'] == 'learned':
        outer.append(('transformer.wpe', {'wpe': (fields['block_size'], C)}, False))
    outer.append(('transformer.ln_f', {'ln_f': (C,)}, fields['bias']))
    if not fields['tied']:
        outer.append(('lm_head', {'head': (vocab_size, C)}, False))
    for module in outer:
        yield from parameters(*module, names, '')
    # one after the other: a config may ask for more than any memory holds
    for i in range(fields['n_layer']):
        for name, parts, bias in modules_of_layer(fields):
            yield from parameters(f'transformer.h.{i}.{name}', parts, bias, names, f'{layers}.{i}.')


def parameters(name, parts, bias, names, prefix):
    yield f'{name}.weight', [(f'{prefix}{names[part]}.weight', shape) for part, shape in parts.items()]
    if bias:
        yield f'{name}.bias', [(f'{prefix}{names[part]}.bias', shape[:1]) for part, shape in parts.items()]


def modules_of_layer(fields):
    """(name in GPT, {part: shape}, whether it has a bias)."""
    C, inner, hs, bias = fields['n_embd'], fields['n_inner'], fields['head_size'], fields['bias']
    queries, keys = fields['n_head'] * hs, fields['n_kv_head'] * hs
    separate = {'q': (queries, C), 'k': (keys, C), 'v': (keys, C)}
    yield 'ln_1', {'ln_1': (C,)}, bias
    parts = separate if fields['position'] == 'rotary' else {'qkv': (queries + 2 * keys, C)}
    yield 'attn.c_attn', parts, bias or fields['bias_attn']
    if fields['qk_norm']:
        yield 'attn.q_norm', {'q_norm': (hs,)}, False
        yield 'attn.k_norm', {'k_norm': (hs,)}, False
    yield 'attn.c_proj', {'proj': (C, queries)}, bias or fields['bias_proj']
    yield 'ln_2', {'ln_2': (C,)}, bias
    gate = {'gate': (inner, C)} if fields['mlp'] == 'silu' else {}
    yield 'mlp.c_fc', {**gate, 'up': (inner, C)}, bias or fields['bias_mlp']
    yield 'mlp.c_proj', {'down': (C, inner)}, bias or fields['bias_mlp']


def check_shape(w, name, shape, source):
    if tuple(w.shape) != shape:
        raise ValueError(f"{name} of {source!r} has the shape {tuple(w.shape)}, its config asks for "
                         f"{shape}: one of them is another model's")
