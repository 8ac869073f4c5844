"""
GPT-2 in one file, in the shape and with the names of nanoGPT, and the hook that lets chosen layers read a memory.

Letters, here and in memory.py:
B batch, T tokens given, S tokens seen (cached and given), C n_embd, nh n_head, hs head size, M stored tokens, K neighbours

Equations are those of the write-up, "Towards Integrating Medium-Term Memory into Transformer Models" (2024).
"""
import contextlib
import hashlib
import math
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

from core import weights as pretrained
from core.sampling import sample


@dataclass
class GPTConfig:
    block_size: int = 1024
    vocab_size: int = 50304  # GPT-2's 50257, padded to a multiple of 64 for speed
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0
    bias: bool = True
    n_inner: int = 0  # width of the MLP, 0 is 4 * n_embd
    activation: str = 'gelu_new'  # GPT-2's tanh form; 'gelu' is the exact one, which nanoGPT trains with
    layer_norm_epsilon: float = 1e-5
    name: str = ''  # where the weights come from


ROWS = 128  # of a long prompt that a reading layer attends with at once


class Cache:
    """
    What the layers keep of the tokens seen, so that a new token costs one row.

    `rows` holds growing tensors (B, ..., size, d), `length` the number of tokens seen before this forward pass, `end` after it.
    A memory read can change rows of the past: `first` (B,) is, in each row of the batch, the first token that is new or changed.
    """

    def __init__(self, size):
        self.size, self.length, self.end = size, 0, 0
        self.rows, self.first, self.readers = {}, None, ()

    def begin(self, idx, readers):
        """Announces new tokens, idx (B, T), for a model with these readers of a memory."""
        B, T = idx.shape
        if self.length > 0 and readers != self.readers:
            raise ValueError("the cache was filled with another memory attached, or with none: begin a new one")
        self.readers = readers
        if self.length + T > self.size:
            raise ValueError(f"the cache holds {self.size} tokens, {self.length} + {T} were given: make it larger")
        self.end = self.length + T
        self.first = torch.full((B,), self.length, device=idx.device)

    def append(self, key, x):
        """x (..., n, d), the newest n rows -> (..., end, d), all of them."""
        if key not in self.rows:
            self.rows[key] = x.new_zeros(*x.shape[:-2], self.size, x.size(-1))
        self.rows[key].narrow(-2, self.end - x.size(-2), x.size(-2)).copy_(x)
        return self.rows[key].narrow(-2, 0, self.end)

    def expand(self, B):
        """One row's tokens become those of a batch of B, which then go their own ways."""
        self.rows = {key: rows.expand(B, *rows.shape[1:]).contiguous() for key, rows in self.rows.items()}


def attention_weights(q, k):
    """Eq. 1, S = softmax(QK^T / sqrt(hs)), causal: (B, nh, T, hs), (B, nh, S, hs) -> (B, nh, T, S), float32."""
    return F.softmax(attention_scores(q, k), dim=-1)


def attention_scores(q, k):
    T, S = q.size(-2), k.size(-2)
    scores = (q @ k.transpose(-2, -1)).float() / math.sqrt(k.size(-1))
    if T > 1:  # the T rows are the newest of S, one row sees everything
        scores = scores.masked_fill(~causal_mask(T, S, q.device), -math.inf)
    return scores


def causal_mask(T, S, device):
    """(T, S), True where the row may look."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


class MemoryReader:
    """
    The hook: one reading layer's way to its memory. An attention layer whose `memory` is None is plain GPT-2.

    Methods 1 to 3 of the write-up pick token-heads (Eq. 4), let the memory find a value for each (Eq. 5), and put it in the
    token's own value's place; method 4 lets every row attend to stored tokens beside its context.
    Attributes: `searches`, token-heads looked up since `start_count`, and `picks`, those picked, again at each step; `trace`, None
    or a list that gets one record a look-up. What the rows of a batch share, since they share their prompt, counts for each of them.
    """

    def __init__(self, memory, layer, heads, k, method, memory_fraction, bookkeeping_fraction, softmax_scale,
                 residual_fraction, select):
        self.memory, self.layer, self.heads, self.k, self.method, self.select = memory, layer, heads, k, method, select
        self.memory_fraction, self.bookkeeping_fraction = memory_fraction, bookkeeping_fraction
        self.softmax_scale, self.residual_fraction = softmax_scale, residual_fraction
        self.searches, self.picks, self.trace = 0, 0, None

    def attend(self, q, k, v, cache, newest=0):
        """q (B, nh, T, hs) of the newest rows, k and v (B, nh, S, hs) of all -> y (B, nh, n, hs) of the newest n >= T rows.

        n > T where `select` is 'last' and the newest row picks otherwise than the row before it did: then earlier rows change.
        `newest`: how many rows are wanted at least, 0 is all.
        """
        if self.method == 4:
            return self.attend_extended(q, k, v)
        queries = cache.append((self, 'queries'), q)  # (B, nh, S, hs)
        change, known = self.kept(v, cache)
        if self.select == 'last':  # the newest row picks for all rows
            picked = self.pick(attention_weights(q[:, :, -1:], k))  # (B, nh, 1, S)
            first = max(self.first_changed_row(picked, cache), cache.end - newest if newest else 0)
            weights = attention_weights(queries[:, :, first:], k)
            return self.replace(picked, weights, queries, k, v, change, known)
        if q.size(2) <= ROWS:  # each row picks for itself
            weights = attention_weights(q, k)  # (B, nh, T, S)
            return self.replace(self.pick(weights), weights, queries, k, v, change, known)
        blocks, end = [], cache.length  # and any blocks of rows will do
        for rows in q.split(ROWS, dim=2):
            end += rows.size(2)
            weights = attention_weights(rows, k[:, :, :end])  # (B, nh, n, end)
            blocks.append(self.replace(self.pick(weights), weights, *(x[:, :, :end] for x in (queries, k, v, change, known))))
        return torch.cat(blocks, dim=2)

    def replace(self, picked, weights, queries, k, v, change, known):
        """y (B, nh, n, hs) of rows with these weights (B, nh, n, S), after looking up what is picked (B, nh, n or 1, S)."""
        self.picks += picked.count_nonzero()
        self.look_up(picked, weights, queries, k, v, change, known)
        return weights.to(v.dtype) @ v + (weights * picked).to(v.dtype) @ change

    def pick(self, weights):
        """Eq. 4. Attention of the newest rows (B, nh, n, S) -> True where the row picks the token-head."""
        n, S = weights.shape[-2:]
        first = weights[..., 0] > self.bookkeeping_fraction
        if self.memory_fraction == 0:
            picked = torch.zeros_like(weights, dtype=torch.bool)
            picked[..., 0] = first
        else:
            seen = torch.arange(S - n + 1, S + 1, device=weights.device).unsqueeze(-1)  # t, the tokens that a row sees
            picked = weights >= 1 / (self.memory_fraction * seen)
            picked[..., 0].logical_and_(first)
        return picked if len(self.heads) == weights.size(1) else picked & self.head_mask(weights.device)

    def head_mask(self, device):
        """(nh, 1, 1), True for a head that reads."""
        mask = torch.zeros(self.memory.n_head, 1, 1, dtype=torch.bool, device=device)
        mask[list(self.heads)] = True
        return mask

    def kept(self, v, cache):
        """v' - v (B, nh, S, hs) of the token-heads looked up before, and (B, nh, S, 1) which are: those whose key is still the same."""
        if (self, 'change') not in cache.rows:
            B, nh, _, hs = v.shape
            cache.rows[self, 'change'] = v.new_zeros(B, nh, cache.size, hs)
            cache.rows[self, 'known'] = v.new_zeros(B, nh, cache.size, 1, dtype=torch.bool)
        change, known = (cache.rows[self, name].narrow(-2, 0, cache.end) for name in ('change', 'known'))
        if self.select == 'last':
            known &= (torch.arange(cache.end, device=v.device) < cache.first[:, None])[:, None, :, None]
        return change, known

    def first_changed_row(self, picked, cache):
        """The first row to compute: the first given, or the first token that was picked otherwise in the step before.

        Rows before it see the same values as then, so their keys in the layers above, and what those found, stay.
        """
        if cache.length > 0:
            before = cache.rows[self, 'picked'][:, :, :cache.length, 0]
            differs = (before != picked[:, :, 0, :cache.length]).any(1)  # (B, length)
            first = torch.where(differs.any(1), differs.int().argmax(1), cache.length)
            cache.first = torch.minimum(cache.first, first)
        cache.append((self, 'picked'), picked.transpose(-2, -1))
        return cache.first.min().item()

    def look_up(self, picked, weights, queries, keys, values, change, known):
        """Writes v' - v of each picked token-head into `change`, once while its key stays: each depends on that token alone."""
        h, b, j = (picked.any(-2) & ~known[..., 0]).transpose(0, 1).nonzero(as_tuple=True)  # by head, as they are searched
        if len(h) == 0:
            return
        at = b, h, j
        v = values[at]
        found, ids, distances, ranks = self.memory.read(
            self.layer, h, queries[at], keys[at], v, self.k, self.method, self.softmax_scale, self.residual_fraction)
        change[at], known[at] = found - v, True
        self.searches += len(v)
        if self.trace is not None:
            attention = weights[:, :, -picked.size(2):].masked_fill(~picked, 0).amax(-2)[at]  # Eq. 1, of the row that picked
            self.record(at, attention, ids, distances, ranks)

    def attend_extended(self, q, k, v):
        """Method 4: one softmax over the context and the K stored keys with the largest product with the row's own query.

        kNN attention of Memorizing Transformers (Wu et al. 2022, 3.2) without its gate; Extended Mind Transformers (2024).
        """
        B, nh, T, hs = q.shape
        heads, K, memory = sorted(self.heads), min(self.k, len(self.memory)), self.memory
        h = torch.tensor(heads, device=q.device).repeat_interleave(B * T)
        products, ids = memory.search(self.layer, h, q.transpose(0, 1)[heads].reshape(-1, hs), K, 'product')  # (N, K)
        products = (self.softmax_scale / math.sqrt(hs) * products).masked_fill(ids < 0, -math.inf)
        beside = products.new_full((nh, B, T, K), -math.inf)
        beside[heads] = products.view(-1, B, T, K)
        both = F.softmax(torch.cat((beside.transpose(0, 1), attention_scores(q, k)), dim=-1), dim=-1).to(v.dtype)
        stored, weights = both.split((K, k.size(2)), dim=-1)
        stored = stored.transpose(0, 1)[heads].reshape(-1, K)
        y = weights @ v
        y[:, heads] += memory.blend(self.layer, h, ids, stored).view(-1, B, T, hs).transpose(0, 1)
        self.picks += len(h)
        self.searches += len(h)
        if self.trace is not None:
            b, i = (grid.flatten().repeat(len(heads)) for grid in torch.meshgrid(torch.arange(B), torch.arange(T), indexing='ij'))
            self.record((b, h, i + k.size(2) - T), stored.sum(-1), ids, products, stored)
        return y

    def record(self, at, attention, ids, distances, ranks):
        """Adds to `trace` one row of the write-up's Table 2 for each of N look-ups."""
        names = 'b', 'h', 'j', 'attention', 'ids', 'distances', 'ranks'
        columns = [column.tolist() for column in (*at, attention, ids, distances, ranks)]
        self.trace += [dict(zip(names, row), layer=self.layer) for row in zip(*columns)]


class Linear(nn.Linear):
    """nn.Linear, whose weight can be packed: ordered in memory as the CPU's library, oneDNN, reads it fastest. See GPT.freeze."""

    def pack(self):
        """The packed weight is opaque: it keeps its numbers, to be read by to_dense(), but can no more be trained."""
        weight, onednn = self.weight.detach(), torch.ops.mkldnn
        if torch.backends.mkldnn.is_available() and (weight.dtype == torch.float32
                                                     or weight.dtype == torch.bfloat16 and onednn._is_mkldnn_bf16_supported()):
            packed = onednn._reorder_linear_weight(weight, 64)  # made for 64 rows, as fast for one and for many
            self.weight = nn.Parameter(packed, requires_grad=False)

    def forward(self, x):
        if self.weight.is_mkldnn:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, 'none', [], '')
        return super().forward(x)


class LayerNorm(nn.Module):
    """Layer normalisation with an optional bias."""

    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.n_embd))
        self.bias = nn.Parameter(torch.zeros(config.n_embd)) if config.bias else None
        self.epsilon = config.layer_norm_epsilon

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


class CausalSelfAttention(nn.Module):

    def __init__(self, config):
        super().__init__()
        if config.n_head < 1 or config.n_embd % config.n_head != 0:
            raise ValueError(f"n_embd {config.n_embd} is not a multiple of n_head {config.n_head}")
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)
        self.n_head, self.dropout = config.n_head, config.dropout
        self.memory = None  # a MemoryReader, see GPT.attach_memory

    def forward(self, x, cache=None, newest=0):
        """x (B, T, C) -> (B, n, C) of the newest rows, see Block."""
        B, T, C = x.shape
        heads = self.c_attn(x).view(B, T, 3 * self.n_head, -1).transpose(1, 2)  # (B, 3 nh, T, hs)
        dtype = heads.dtype
        if x.device.type == 'cpu' and not self.training:
            heads = heads.float()  # a CPU's attention in bfloat16 is slower, and less exact
        q, kv = heads.split([self.n_head, 2 * self.n_head], dim=1)
        if cache is not None:
            kv = cache.append(self, kv)
        k, v = kv.chunk(2, dim=1)  # (B, nh, S, hs)
        if self.memory is None:
            y = self.attend(q[:, :, -newest:], k, v)
        else:
            y = self.memory.attend(q, k, v, cache, newest)[:, :, -newest:]
        y = y.transpose(1, 2).reshape(B, -1, C)  # heads side by side
        return self.resid_dropout(self.c_proj(y.to(dtype)))

    def attend(self, q, k, v):
        """Plain causal attention: q (B, nh, T, hs) of the newest rows, k and v (B, nh, S, hs) -> (B, nh, T, hs)."""
        T, S = q.size(2), k.size(2)
        mask = causal_mask(T, S, q.device) if 1 < T < S else None  # one row sees everything, T == S is the kernel's own case
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=1 < T == S,
                                              dropout_p=self.dropout if self.training else 0)


class MLP(nn.Module):

    def __init__(self, config):
        super().__init__()
        n_inner = config.n_inner or 4 * config.n_embd
        self.c_fc = Linear(config.n_embd, n_inner, bias=config.bias)
        self.gelu = nn.GELU(approximate='tanh' if config.activation == 'gelu_new' else 'none')
        self.c_proj = Linear(n_inner, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))


class Block(nn.Module):

    def __init__(self, config):
        super().__init__()
        self.ln_1 = LayerNorm(config)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = LayerNorm(config)
        self.mlp = MLP(config)

    def forward(self, x, cache=None, newest=0):
        """x (B, T, C) of the newest rows -> (B, n, C): n is `newest`, or T for 0; a reading layer may answer with more rows than T."""
        y = self.attn(self.ln_1(x), cache, newest)
        if self.attn.memory is not None:
            x = cache.append((self, 'x'), x)
        x = x[:, -y.size(1):] + y
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):

    def __init__(self, config):
        super().__init__()
        self.config, self.frozen = config, ''
        self.transformer = nn.ModuleDict(dict(
            wte=nn.Embedding(config.vocab_size, config.n_embd),
            wpe=nn.Embedding(config.block_size, config.n_embd),
            drop=nn.Dropout(config.dropout),
            h=nn.ModuleList([Block(config) for _ in range(config.n_layer)]),
            ln_f=LayerNorm(config),
        ))
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer.wte.weight  # tied, as in GPT-2
        self.apply(self._init_weights)
        for name, p in self.named_parameters():  # GPT-2 scales the projections into the residual stream
            if name.endswith('c_proj.weight'):
                nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(2 * config.n_layer))

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def get_num_params(self):
        """Number of parameters, the position embedding left out, as nanoGPT counts them."""
        left_out = 'lm_head.weight', 'transformer.wpe.weight'  # the head is the token embedding's copy once it is packed
        return sum(p.numel() for name, p in self.named_parameters() if name not in left_out)

    def hidden(self, idx, cache=None, pos=None, newest=0):
        """idx (B, T) token ids, following those in the cache, at pos (T,) or (B, T) -> (B, n, C), after the last layer norm.

        n is `newest`, the last rows alone, or T for 0.
        """
        T = idx.size(1)
        past = 0 if cache is None else cache.length
        if past + T > self.config.block_size:
            raise ValueError(f"{past + T} tokens are longer than the model's context of {self.config.block_size}: shorten them")
        readers = tuple(self.readers.values())
        if cache is None and readers:
            cache = Cache(T)  # a reader keeps its rows there
        if cache is not None:
            cache.begin(idx, readers)
        if pos is None:
            pos = torch.arange(past, past + T, device=idx.device)
        x = self.transformer.drop(self.transformer.wte(idx) + self.transformer.wpe(pos))  # (B, T, C)
        *blocks, last = self.transformer.h
        for block in blocks:
            x = block(x, cache)
        x = last(x, cache, newest or T)
        if cache is not None:
            cache.length = cache.end
        return self.transformer.ln_f(x)

    def forward(self, idx, targets=None, cache=None, pos=None):
        """Next-token logits.

        idx (B, T) int64, and with a `cache` (see Cache) the tokens that follow those in it; targets (B, T) int64, -1 ignored.
        pos (B, T) int64: their positions, None is one after the other.
        -> logits (B, 1, vocab_size) of the last token and None, or, with targets, logits (B, T, vocab_size) and their mean
        cross entropy in nats. Raises ValueError when the tokens are longer than block_size. `searches` counts this call.
        """
        self.start_count()
        x = self.hidden(idx, cache, pos, newest=1 if targets is None else 0)
        if targets is None:
            return self.lm_head(x), None
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    # ---- the memory ----

    @property
    def readers(self):
        """{layer: MemoryReader} of the layers that read."""
        return {layer: block.attn.memory for layer, block in enumerate(self.transformer.h) if block.attn.memory is not None}

    @readers.setter
    def readers(self, readers):
        for layer, block in enumerate(self.transformer.h):
            block.attn.memory = readers.get(layer)

    @property
    def searches(self):
        """{layer: token-heads looked up} in the last forward or generate."""
        return {layer: reader.searches for layer, reader in self.readers.items()}

    @property
    def picks(self):
        """{layer: token-heads picked, added up over the steps} in the last forward or generate."""
        return {layer: int(reader.picks) for layer, reader in self.readers.items()}

    def start_count(self):
        for reader in self.readers.values():
            reader.searches = reader.picks = 0

    def attach_memory(self, memory, layers=(9,), heads=(), k=5, method=2, memory_fraction=0.0, bookkeeping_fraction=0.9,
                      softmax_scale=1000.0, residual_fraction=0.1, select='last'):
        """Lets `layers` read `memory` from now on, in place of any memory attached before.

        memory: PersistentMemory that was written by this model, and holds these layers; an empty one changes nothing.
        layers, heads: 0-based; heads () is all. k: neighbours a look-up. method: 1, 2, 3 (the write-up) or 4 (extended
        attention). memory_fraction: MF >= 0. bookkeeping_fraction: BF in [0, 1]. softmax_scale: TS in [0, 1e6].
        residual_fraction: RF in [0, 1]. select: 'last', the newest row picks for all rows, or 'each', every row for itself.
        Raises ValueError that names what does not fit, and then leaves the model as it was. Undo: `detach_memory`.
        """
        memory.check(self)
        layers, heads = tuple(layers), tuple(heads)
        check_indices('layer', layers, self.config.n_layer)
        check_indices('head', heads, self.config.n_head)
        if not layers:
            raise ValueError(f"layers is (), expected at least one of {memory.layers}")
        memory.check_layers(layers)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"k is {k!r}, expected a whole number of neighbours, 1 or more")
        check_choice('method', method, (1, 2, 3, 4))
        check_choice('select', select, ('last', 'each'))
        check_range('memory_fraction', memory_fraction, 1e6)
        check_range('bookkeeping_fraction', bookkeeping_fraction, 1)
        check_range('softmax_scale', softmax_scale, 1e6)  # takes the best alone; beyond, float32 would overflow
        check_range('residual_fraction', residual_fraction, 1)
        self.detach_memory()
        if len(memory) == 0:
            return
        heads = heads or tuple(range(self.config.n_head))
        self.readers = {layer: MemoryReader(memory, layer, heads, k, method, memory_fraction, bookkeeping_fraction, softmax_scale,
                                            residual_fraction, select) for layer in layers}

    def detach_memory(self):
        """Back to exactly the plain model."""
        self.readers = {}

    @contextlib.contextmanager
    def plain(self):
        """Within it no memory is read."""
        readers = self.readers
        self.detach_memory()
        try:
            yield
        finally:
            self.readers = readers

    @torch.no_grad()
    def keys_values(self, idx, layers):
        """What the plain model's attention layers keep of idx (B, T): {layer: (keys, values)}, both (B, nh, T, hs)."""
        cache = Cache(idx.size(1))
        with self.plain():
            self.hidden(idx, cache, newest=1)
        attention = {layer: self.transformer.h[layer].attn for layer in layers}
        return {layer: cache.rows[attn].chunk(2, dim=1) for layer, attn in attention.items()}

    # ---- sampling ----

    def generate(self, idx, max_new_tokens, temperature=1.0, top_k=None, seeds=None):
        """Continues idx (B, T) int64 by max_new_tokens each -> (B, T + max_new_tokens).

        temperature: > 0. top_k: draw from the k likeliest tokens only, None is all, 1 is greedy. seeds: one int per row; a row
        then gets what nanoGPT draws for it alone after torch.manual_seed(seed). None draws from torch's global generator.
        Past block_size the context is cropped from the left, as in nanoGPT. `searches` counts the whole call.
        Raises ValueError for an empty idx, an id outside the vocabulary, or a setting out of range.
        """
        self.check_ids(idx)
        if max_new_tokens < 0:
            raise ValueError(f"max_new_tokens is {max_new_tokens}, expected 0 or more")
        if not 1e-6 <= temperature < math.inf:
            raise ValueError(f"temperature is {temperature}, expected a number above 0, from 1e-6 on (top_k=1 is greedy)")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}, expected 1 or more, or None for the whole vocabulary")
        if seeds is not None and len(seeds) != len(idx):
            raise ValueError(f"{len(seeds)} seeds were given for {len(idx)} rows: give one per row, or None")
        if seeds is not None and not all(0 <= seed < 2**63 for seed in seeds):
            raise ValueError(f"a seed of {list(seeds)} is out of range: give whole numbers from 0 to 2**63 - 1")
        generators = None if seeds is None else [torch.Generator(idx.device).manual_seed(seed) for seed in seeds]
        self.start_count()
        with torch.inference_mode():
            rows = self.write(idx, max_new_tokens, temperature, top_k, generators)
        return rows.clone()  # an ordinary tensor, as those of inference mode are not

    def write(self, idx, max_new_tokens, temperature, top_k, generators):
        size = min(idx.size(1) + max_new_tokens, self.config.block_size)
        cache = Cache(size)
        for step in range(max_new_tokens):
            if idx.size(1) > size:  # positions move: nothing kept still holds
                cache = Cache(size)
            chunk = idx[:, -size:][:, cache.length:]
            shared = step == 0 and len(chunk) > 1 and (chunk == chunk[0]).all().item()  # one prompt for all rows
            logits = self.lm_head(self.hidden(chunk[:1] if shared else chunk, cache, newest=1)[:, -1])  # (B, vocab_size)
            if shared:
                cache.expand(len(chunk))
                logits = logits.expand(len(chunk), -1)
                for reader in self.readers.values():
                    reader.searches, reader.picks = len(chunk) * reader.searches, len(chunk) * reader.picks
            idx = torch.cat((idx, sample(logits, temperature, top_k, generators)), dim=1)
        return idx

    def check_ids(self, idx):
        """Raises ValueError unless idx (B, T) holds at least one token, and only ids of the vocabulary."""
        if idx.numel() == 0:
            raise ValueError("no tokens: give at least one")
        low, high = idx.min().item(), idx.max().item()
        if low < 0 or high >= self.config.vocab_size:
            raise ValueError(f"token id {low if low < 0 else high} is outside the vocabulary of {self.config.vocab_size}: "
                             "the tokenizer is not this model's")

    # ---- weights in and out, see pretrained.py ----

    @classmethod
    def from_pretrained(cls, source):
        """A GPT-2 by its hub name ('gpt2', 'gpt2-medium', 'distilgpt2', ...) or a folder in Hugging Face format, in float32.

        Raises FileNotFoundError when there is no such model or no network, ValueError when it is no GPT-2 or is damaged.
        """
        sizes, weights = pretrained.load(source)
        return cls(GPTConfig(**sizes)).take(weights)

    @classmethod
    def from_checkpoint(cls, path):
        """nanoGPT's ckpt.pt, or train.py's. Raises FileNotFoundError, or ValueError when it is damaged or of another kind."""
        sizes, weights = pretrained.load_checkpoint(path)
        try:
            return cls(GPTConfig(**sizes)).take(weights)
        except (TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{path} is no checkpoint of a GPT ({pretrained.first_line(error)})") from None

    def take(self, weights):
        """Loads a state dict, every parameter of it, -> self, ready to write."""
        self.load_state_dict(weights)
        return self.eval()

    def freeze(self):
        """For inference alone from now on: keeps the fingerprint, and on a CPU packs the weights.

        The model is then not to be trained, loaded into, moved, cast or pickled; `save_pretrained` still writes it.
        """
        if self.frozen:
            return
        self.requires_grad_(False)
        self.frozen = self.fingerprint()
        if self.transformer.wte.weight.device.type == 'cpu':
            for layer in self.modules():
                if isinstance(layer, Linear):
                    layer.pack()

    def save_pretrained(self, folder, dtype=torch.float32):
        """Writes config.json and model.safetensors, which GPT2LMHeadModel.from_pretrained and GPT.from_pretrained read.

        Each file is replaced whole. A model without biases is written with biases of zero. Raises OSError when it cannot write.
        """
        pretrained.save(self.config, {name: w.to_dense() for name, w in self.state_dict().items()}, folder, dtype)

    def fingerprint(self):
        """A hash of the weights: of each parameter's name, shape, and up to 1024 evenly spaced numbers, rounded to bfloat16.

        Takes milliseconds. The same for a copy in bfloat16; another after a training step, which moves every weight.
        """
        if self.frozen:
            return self.frozen
        digest = hashlib.sha256()
        for name, p in self.named_parameters():
            numbers = p.detach().flatten()[::max(1, p.numel() // 1024)][:1024].bfloat16()
            digest.update(f'{name} {tuple(p.shape)}'.encode())
            digest.update(numbers.cpu().view(torch.int16).numpy().tobytes())
        return digest.hexdigest()[:32]


def check_indices(kind, given, count):
    """Raises ValueError unless `given` are different whole numbers in [0, count)."""
    for i in given:
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < count:
            raise ValueError(f"{kind} {i!r} does not exist: the model's {kind}s are 0 to {count - 1}")
    if len(set(given)) < len(given):
        raise ValueError(f"a {kind} is named twice in {given}: name each once")


def check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}")


def check_range(name, value, highest):
    if not 0 <= value <= highest:
        raise ValueError(f"{name} is {value}, expected a number from 0 to {highest:g}")
