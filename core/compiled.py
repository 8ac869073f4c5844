"""
A frozen model's layers in core/kernel.cpp: the next token of a few rows, on a CPU; and the read of a memory.

R rows of a batch; letters else as in model.py.
"""
import ctypes
import functools
import itertools
import math
import operator

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
            and cache.trace is None and not (torch.is_grad_enabled() and x.requires_grad)
            and kernel.library() is not None)


def linears_of(block):
    return block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj


def can_be(model):
    """Whether each product is a core.packed.Linear's, packed, with a weight that C++ reads."""
    return all(isinstance(one, Linear) and one.packed and kernel.takes(one)
               for block in model.transformer.h for one in linears_of(block))


class Layers:
    """Valid while the model stays frozen."""

    def __init__(self, model):
        c, self.alive = model.config, []
        self.layers = (kernel.Layer * c.n_layer)(*(self.layer_of(block) for block in model.transformer.h))
        act = 2 if c.mlp == 'silu' else 0 if c.mlp == 'gelu_new' else 1
        last = model.transformer.ln_f
        self.model = kernel.Model(self.layers, self.at(last.weight), self.at(last.bias), c.n_layer, c.n_embd,
                                  c.n_head, c.n_kv_head, c.head_size, c.n_inner or 4 * c.n_embd,
                                  c.norm == 'rms', act, c.layer_norm_epsilon)
        # what `unchanged` looks at: some hundred parts, so that its loops are C's
        modules = [*model.transformer.h.modules(), last]
        self.own = [module.__dict__ for module in modules]
        self.hooks = [own[kind] for own in self.own for kind in ('_forward_hooks', '_forward_pre_hooks')]
        parts = [(there, name, part) for own in self.own for there in (own['_modules'], own['_parameters'])
                 for name, part in there.items()]
        self.there, self.names, self.parts = zip(*parts)

    def unchanged(self):
        """Whether the layers are still those that were compiled, and nobody hooked on to a part of them."""
        return (not any(self.hooks) and not any(map(dict.__contains__, self.own, itertools.repeat('forward')))
                and all(map(operator.is_, map(dict.get, self.there, self.names), self.parts)))

    def fit(self, x, cache):
        """Whether the layers are unchanged, and the cache holds rows of theirs."""
        if not self.unchanged():
            return False
        if cache.places is None or not cache.places.hold(cache, len(x)):
            cache.places = Places(self.model, cache, len(x))
        return cache.places.whole

    def layer_of(self, block):
        ln_1, ln_2, linears = block.ln_1, block.ln_2, map(self.weight_of, linears_of(block))
        of_heads = (one and one.weight for one in (block.attn.q_norm, block.attn.k_norm))
        norms = ln_1.weight, ln_1.bias, ln_2.weight, ln_2.bias, *of_heads
        return kernel.Layer(*linears, *map(self.at, norms))

    def weight_of(self, layer):
        weight, bias = kernel.weight_of(layer)
        self.alive += layer.weight.detach(), layer.scales, bias  # also where somebody sets its .data
        return weight

    def at(self, tensor):
        """Where it lies in float32."""
        if tensor is None:
            return None
        self.alive.append(tensor.detach().float())
        return self.alive[-1].data_ptr()

    def step(self, x, at, cache):
        """x (R, 1, C) -> the same, through all layers and ln_f; `at` as for rotary.turn, or None."""
        rows, counts = x[:, 0].to(torch.float32, copy=True).contiguous(), cache.places.counts
        cos, sin = (part.data_ptr() for part in at) if at is not None else (None, None)
        kernel.library().step(ctypes.byref(self.model), len(rows), cache.end, rows.data_ptr(), cos, sin,
                              cache.places.kept, counts, torch.get_num_threads())
        for layer, reader in cache.readers.items():
            reader.count(cache, len(rows), *counts[2 * layer:2 * layer + 2])
        ctypes.memset(counts, 0, ctypes.sizeof(counts))
        return rows[:, None].to(x.dtype)


class Elsewhere(Exception):
    """Rows lie where C++ does not read them."""


class Places:
    """Where a call's layers keep the rows of R rows of a batch, and what they read, while these are the same;
    `whole` where C++ can go by them."""

    def __init__(self, model, cache, R):
        self.R, self.rows, self.stored, self.reads, self.room = R, {}, {}, [], math.inf
        self.readers = cache.readers
        self.kept = (kernel.Kept * model.n_layer)()
        self.counts = (ctypes.c_int64 * (2 * model.n_layer))()  # picks and searches of a step
        try:
            for layer in range(model.n_layer):
                self.kept[layer] = self.kept_in(layer, model, cache)
            self.whole = True
        except Elsewhere:
            self.whole = False

    def kept_in(self, layer, model, cache):
        rows, before = functools.partial(self.rows_of, cache, layer), cache.before((layer, 'kv'))
        kv, reader, read = rows('kv', 2 * model.nkv, model.hs), cache.readers.get(layer), None
        if reader is not None:
            if before:
                raise Elsewhere
            self.stored[layer] = reader.stored
            self.reads.append(reader.compiled(rows, cache))
            read = ctypes.pointer(self.reads[-1])
        return kernel.Kept(kv.data_ptr(), kv.size(-2), before, read)

    def rows_of(self, cache, layer, kind, heads, d, dtype=torch.float32):
        """What is kept under a key, (R, heads, size, d). Raises Elsewhere."""
        key = layer, kind
        rows, before = cache.rows.get(key), cache.before(key)
        if (rows is None or rows.device.type != 'cpu' or rows.dtype != dtype or not rows.is_contiguous()
                or rows.requires_grad or (*rows.shape[:2], rows.size(-1)) != (self.R, heads, d)
                or rows.size(-2) < before + cache.end):
            raise Elsewhere
        self.rows[key], self.room = rows, min(self.room, rows.size(-2) - before)
        return rows

    def hold(self, cache, R):
        """Whether all is still there."""
        return (self.whole and self.R == R and cache.readers is self.readers and cache.end <= self.room
                and all(cache.rows.get(key) is rows and not rows.requires_grad
                        for key, rows in self.rows.items())
                and all(self.readers[layer].stored is stored for layer, stored in self.stored.items()))


# ---- reading a memory ----

def check_heads(heads, cache):
    """Raises Elsewhere where read_each cannot take these reader.Heads."""
    there = all(x.device.type == 'cpu' and x.dtype == torch.float32 for x in heads)
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in heads)
    if not there or learns or cache.trace is not None or kernel.library() is None:
        raise Elsewhere


def lie_dense(*stored):
    return all(rows.numel() > 0 and rows.stride()[-2:] == (rows.size(-1), 1) and rows.device.type == 'cpu'
               and rows.dtype == torch.float32 for rows in stored)


def read_of(reads, keys, values, reading, k, v, plain_k, plain_q=None, change=None, known=None, turns=(),
            header=0):
    """-> kernel.Read, which keeps alive what it reads. Raises Elsewhere.

    reads (nh,) bool: the heads that do; keys, values (1 or R, nkv, M, hs) stored ones; the others of all
    tokens, (R, heads, S, d). turns: of method 4 a cos and a sin, by which its queries are turned, or the keys
    of the first `header` tokens.
    """
    if not lie_dense(keys, values):
        raise Elsewhere
    _, nkv, M, hs = keys.shape
    longest = keys.norm(dim=-1).max() if reading.method == 4 and reading.k < M else 0  # else never asked for
    rows = k, v, plain_q, plain_k, change, known, keys, values
    far, back = ((None, None), turns) if header else (turns or (None, None), (None, None))
    parts = reads, *far, *back
    read = kernel.Read(*(kernel.Rows() if x is None else kernel.Rows.of(x) for x in rows),
                       *(None if x is None else x.data_ptr() for x in parts), len(reads), nkv, hs, M,
                       min(reading.k, M), reading.method, header, reading.memory_fraction,
                       reading.bookkeeping_fraction, reading.softmax_scale / math.sqrt(hs),
                       reading.residual_fraction, longest)
    read.alive = *rows, *parts
    return read


def read_each(q, S, read):
    """What Reader.attend_each gives for q (B, nh, T, hs), of the newest of S tokens: y as q, with picks and
    searches; read.change and known get what is looked up."""
    B, _, T, _ = q.shape
    q, y, counts = q.contiguous(), kernel.floats(*q.shape), (ctypes.c_int64 * 2)()
    kernel.library().read_each(ctypes.byref(read), B, T, S, q.data_ptr(), y.data_ptr(), counts,
                               torch.get_num_threads())
    return y, *counts
