"""
A frozen model's layers in core/kernel.cpp: the next token of a few rows, on a CPU.

R rows of a batch; letters else as in model.py.
"""
import ctypes
import math

import torch

from core import kernel
from core.packed import Linear


def fits(x, cache):
    """Whether x (R, T, C), the newest tokens in float32 or bfloat16, can go through Layers.

    A cache that holds tokens already, all of a row's own, and readers that leave the past as it is.
    """
    return (x.size(1) == 1 and len(x) <= kernel.MOST_ROWS and x.device.type == 'cpu'
            and x.dtype in (torch.float32, torch.bfloat16) and cache is not None and cache.length > 0
            and not (cache.kept_layers or cache.front_seen or cache.shared or cache.changes_past)
            and not (torch.is_grad_enabled() and x.requires_grad)
            and kernel.library() is not None)


def linears_of(block):
    return block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj


def can_be(model):
    """Whether each product is a core.packed.Linear's, packed, with a weight that C++ reads."""
    return all(isinstance(one, Linear) and one.packed and kernel.takes(one)
               for block in model.transformer.h for one in linears_of(block))


class Layers:
    """Valid while the model stays frozen. x (R, C) float32, changed in place."""

    def __init__(self, model):
        c, self.alive, self.modules = model.config, [], list(model.transformer.h.modules())
        self.parts = [(module._modules, name, part) for module in self.modules
                      for name, part in module._modules.items()]
        self.weights = [(one, one.weight) for block in model.transformer.h for one in linears_of(block)]
        self.layers = (kernel.Layer * c.n_layer)(*(self.layer_of(block) for block in model.transformer.h))
        act = 2 if c.mlp == 'silu' else 0 if c.mlp == 'gelu_new' else 1
        self.model = kernel.Model(self.layers, c.n_embd, c.n_head, c.n_kv_head, c.head_size,
                                  c.n_inner or 4 * c.n_embd, c.norm == 'rms', act, c.layer_norm_epsilon)
        self.width = (c.n_head + 2 * c.n_kv_head) * c.head_size

    def fit(self, x, cache):
        """Whether the layers are still those that were compiled, nobody hooked on to a part of them, and the
        cache holds rows of theirs."""
        watched = any(module._forward_hooks or module._forward_pre_hooks or 'forward' in module.__dict__
                      for module in self.modules)
        same = (all(there[name] is part for there, name, part in self.parts)
                and all(one.weight is weight for one, weight in self.weights))
        plain = set(range(len(self.layers))) - set(cache.readers)
        return not watched and same and all(self.holds(cache, layer, len(x)) for layer in plain)

    def holds(self, cache, layer, R):
        """Whether the rows of a layer are where `plain` reads and writes them."""
        rows, m = cache.rows.get((layer, 'kv')), self.model
        return (rows is not None and rows.device.type == 'cpu' and rows.dtype == torch.float32
                and rows.is_contiguous() and not rows.requires_grad
                and (*rows.shape[:2], rows.size(-1)) == (R, 2 * m.nkv, m.hs)
                and rows.size(-2) >= cache.before((layer, 'kv')) + cache.end)

    def layer_of(self, block):
        ln_1, ln_2, linears = block.ln_1, block.ln_2, map(self.weight_of, linears_of(block))
        of_heads = (one and one.weight for one in (block.attn.q_norm, block.attn.k_norm))
        norms = ln_1.weight, ln_1.bias, ln_2.weight, ln_2.bias, *of_heads
        return kernel.Layer(*linears, *map(self.at, norms))

    def weight_of(self, layer):
        weight, bias = kernel.weight_of(layer)
        self.alive += layer.scales, bias
        return weight

    def at(self, tensor):
        """Where it lies in float32."""
        if tensor is None:
            return None
        self.alive.append(tensor.detach().float())
        return self.alive[-1].data_ptr()

    def step(self, blocks, x, at, cache):
        """x (R, 1, C) -> the same, through all layers; `at` as for rotary.turn, or None."""
        rows, first = x[:, 0].to(torch.float32, copy=True).contiguous(), 0
        for layer in sorted(cache.readers):
            self.plain(rows, range(first, layer), at, cache)
            heads = self.before(rows, layer)
            y = blocks[layer].attn.answer(heads[:, None], at, cache, cache.readers[layer], 1)
            self.after(rows, layer, y.contiguous())
            first = layer + 1
        self.plain(rows, range(first, len(blocks)), at, cache)
        return rows[:, None].to(x.dtype)

    def plain(self, x, layers, at, cache):
        """A range of layers that read no memory."""
        kept = (kernel.Kept * len(self.layers))()
        for layer in layers:
            rows = cache.rows[layer, 'kv']
            kept[layer] = kernel.Kept(rows.data_ptr(), rows.size(-2), cache.before((layer, 'kv')) + cache.end)
        cos, sin = (part.data_ptr() for part in at) if at is not None else (None, None)
        kernel.library().plain_layers(ctypes.byref(self.model), layers.start, layers.stop, len(x),
                                      x.data_ptr(), cos, sin, kept, torch.get_num_threads())

    def before(self, x, layer):
        """-> what c_attn gives of the layer's normalised input, (R, (nh + 2 nkv) hs) float32."""
        heads = kernel.floats(len(x), self.width)
        kernel.library().before_attention(ctypes.byref(self.model), layer, len(x), x.data_ptr(),
                                          heads.data_ptr(), torch.get_num_threads())
        return heads

    def after(self, x, layer, y):
        """y (R, nh hs) float32, what attention gives: the rest of the layer."""
        kernel.library().after_attention(ctypes.byref(self.model), layer, len(x), y.data_ptr(), x.data_ptr(),
                                         torch.get_num_threads())


# ---- reading a memory ----

def can_read(heads, stored, cache):
    """Whether read_each can take these reader.Heads."""
    return (all(x.device.type == 'cpu' and x.dtype == torch.float32 for x in heads)
            and not (torch.is_grad_enabled() and any(x.requires_grad for x in heads)) and len(stored.keys) > 0
            and stored.keys.table.rows.is_contiguous() and stored.values.rows.is_contiguous()
            and cache.trace is None and kernel.library() is not None)


def read_each(heads, stored, reading, reads, change, known):
    """What Reader.attend_each gives, y (B, nh, T, hs), with picks and searches.

    heads: plain_q of all tokens; reads (nh,) bool, the heads that read; change (B, nh, S, hs) and known
    (B, nh, S, 1) get what is looked up.
    """
    B, nh, T, hs = heads.q.shape
    q = heads.q.contiguous()
    keys, values = stored.keys.table.rows[None], stored.values.rows[None]  # (1, nkv, M, hs)
    parts = (kernel.Rows.of(x) for x in (q, *heads[1:], change, known, keys, values))
    (nkv, S), M = heads.k.shape[1:3], keys.size(2)
    read = kernel.Read(*parts, reads.data_ptr(), B, nh, nkv, hs, T, S, M, min(reading.k, M), reading.method,
                       reading.memory_fraction, reading.bookkeeping_fraction,
                       reading.softmax_scale / math.sqrt(hs), reading.residual_fraction)
    y, counts = kernel.floats(B, nh, T, hs), (ctypes.c_int64 * 2)()
    kernel.library().read_each(ctypes.byref(read), y.data_ptr(), counts, torch.get_num_threads())
    return y, *counts
