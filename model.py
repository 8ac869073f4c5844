"""
GPT-2 and the Llama family in one file, nanoGPT's shape and names, and the hook by which layers read a memory.

Letters, here, in reader.py and in memory.py: B batch, T tokens given, S tokens seen (cached and given),
C n_embd, nh n_head, nkv key heads (each serves nh / nkv query heads that follow each other), hs head size,
M stored tokens, K neighbours
"""
import contextlib
import contextvars
import math

import torch
import torch.nn as nn
from torch.nn import functional as F

from core import weights
from core.cache import Cache, Counts, counts_of_last_call
from core.config import GPTConfig
from core.frozen import WeightState
from core.generation import Writing, check_end_ids, check_ids, check_writing, generators_of, write
from core.packed import Linear, count
from core.rotary import Rotary, turn
from core.shared_prompt import attend_behind
from extended import readers_of
from reader import Heads, Reading, causal_mask
from recall import Recaller

plain_now = contextvars.ContextVar('plain_now', default=frozenset())  # models that read none, for a caller


class Norm(nn.Module):
    """Layer normalisation with an optional bias; 'rms': by the root mean square (Zhang, Sennrich 2019)."""

    def __init__(self, config, size=0):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size or config.n_embd))
        self.epsilon, self.rms = config.layer_norm_epsilon, config.norm == 'rms'
        self.bias = nn.Parameter(torch.zeros(config.n_embd)) if config.bias and not self.rms else None

    def forward(self, x):
        if self.rms:
            return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.epsilon)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


class CausalSelfAttention(nn.Module):

    def __init__(self, config, layer):
        super().__init__()
        self.n_head, self.n_kv_head, self.head_size = config.n_head, config.n_kv_head, config.head_size
        C, hs, nh, nkv, bias = config.n_embd, config.head_size, config.n_head, config.n_kv_head, config.bias
        self.c_attn = Linear(C, (nh + 2 * nkv) * hs, bias=bias or config.bias_attn)
        self.c_proj = Linear(nh * hs, C, bias=bias or config.bias_proj)
        self.q_norm, self.k_norm = (Norm(config, hs) if config.qk_norm else None for _ in range(2))
        self.resid_dropout = nn.Dropout(config.dropout)
        self.layer, self.dropout = layer, config.dropout

    def forward(self, x, at=None, cache=None, reader=None, newest=0):
        """x (B, T, C), rotary positions `at` -> (B, n, C) of the newest rows, see Block. No reader: plain."""
        T, heads = x.size(1), self.c_attn(x).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
        if heads.device.type == 'cpu' and not self.training:
            heads = heads.float()  # a CPU's attention in bfloat16 is slower, and less exact
        q, k, v = heads.split([self.n_head, self.n_kv_head, self.n_kv_head], dim=1)  # (B, nh or nkv, T, hs)
        if self.q_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        plain_q, plain_k = q, k
        if at is not None:  # a reading layer below may have answered with fewer or more rows than came
            at = [part[..., -T:, :] for part in at]
            q, k = turn(torch.cat((q, k), dim=1), at).split([self.n_head, self.n_kv_head], dim=1)
        if cache is not None:
            if self.layer in cache.kept_layers:
                cache.kept[self.layer] = plain_q, plain_k, v
            is_one = at is None and self.q_norm is None  # keys and values lie side by side as they came
            kv = heads[:, self.n_head:] if is_one else torch.cat((k, v), dim=1)
            k, v = cache.append((self.layer, 'kv'), kv).chunk(2, dim=1)  # (B, nkv, S, hs)
            if reader is not None:
                plain_k = k if at is None else cache.append((self.layer, 'plain'), plain_k)
        y = (self.attend(q[:, :, -newest:], k, v, cache) if reader is None else
             reader.attend(Heads(q, k, v, plain_q, plain_k), cache, newest)[:, :, -newest:])
        y = y.transpose(1, 2).flatten(2).to(x.dtype)  # heads side by side
        return self.resid_dropout(self.c_proj(y))

    def attend(self, q, k, v, cache=None):
        """Plain causal attention: q (B, nh, T, hs) of the newest rows, k and v (B, nkv, S, hs) -> as q."""
        T, S, dropout = q.size(2), k.size(2), self.dropout if self.training else 0
        seen, shared = cache.before_all(self.layer) if cache is not None else (None, None)
        mask = causal_mask(T, S, q.device) if 1 < T < S else None  # T == S is the kernel's own case
        if seen is not None:
            behind = torch.ones(len(seen), S - seen.size(1), dtype=torch.bool, device=q.device)
            there = torch.cat((seen, behind), dim=1)[:, None, None]  # (B, 1, 1, S)
            mask = there if mask is None else there & mask
        if T == 1:  # one row sees everything, so that the query heads of a key head can be its rows
            rows = q.reshape(len(q), self.n_kv_head, -1, self.head_size)
            if shared is not None:
                return attend_behind(shared, rows, k, v).view(q.shape)
            return F.scaled_dot_product_attention(rows, k, v, attn_mask=mask).view(q.shape)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout,
                                              is_causal=mask is None,
                                              enable_gqa=self.n_head != self.n_kv_head)


class MLP(nn.Module):

    def __init__(self, config):
        super().__init__()
        n_inner, self.gated = config.n_inner or 4 * config.n_embd, config.mlp == 'silu'
        bias = config.bias or config.bias_mlp
        self.c_fc = Linear(config.n_embd, 2 * n_inner if self.gated else n_inner, bias=bias)  # gate, then up
        self.act = nn.SiLU() if self.gated else nn.GELU('tanh' if config.mlp == 'gelu_new' else 'none')
        self.c_proj = Linear(n_inner, config.n_embd, bias=bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        x = self.c_fc(x)
        if self.gated:
            gate, up = x.chunk(2, dim=-1)
            return self.dropout(self.c_proj(self.act(gate) * up))
        return self.dropout(self.c_proj(self.act(x)))


class Block(nn.Module):

    def __init__(self, config, layer):
        super().__init__()
        self.layer, self.ln_1, self.attn = layer, Norm(config), CausalSelfAttention(config, layer)
        self.ln_2, self.mlp = Norm(config), MLP(config)

    def forward(self, x, at=None, cache=None, newest=0):
        """x (B, T, C), the newest rows -> (B, n, C): n is `newest`, 0 is T; a reader may answer with more."""
        reader = cache.readers.get(self.layer) if cache is not None else None
        y = self.attn(self.ln_1(x), at, cache, reader, newest)
        if reader is not None and reader.changes_past:
            x = cache.append((self.layer, 'x'), x)
        x = x[:, -y.size(1):] + y
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):

    def __init__(self, config):
        super().__init__()
        self.config, self.state = config, WeightState()
        self.readers, self.recaller = {}, None  # of methods 1 to 4, by layer; of method 5
        self.rotary, embeddings = None, {'wte': nn.Embedding(config.vocab_size, config.n_embd)}
        if config.position == 'rotary':
            scaling = config.rope_scaling, config.rope_factors
            self.rotary = Rotary(config.head_size, config.rope_theta, *scaling)
        else:
            embeddings['wpe'] = nn.Embedding(config.block_size, config.n_embd)
        self.transformer = nn.ModuleDict(dict(
            **embeddings, drop=nn.Dropout(config.dropout),
            h=nn.ModuleList([Block(config, layer) for layer in range(config.n_layer)]),
            ln_f=Norm(config),
        ))
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.transformer.wte.weight
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
        return sum(count(p) for name, p in self.named_weights() if name != 'transformer.wpe.weight')

    def named_weights(self):
        """The parameters, without a tied head, which is the token embedding."""
        return ((name, p) for name, p in self.named_parameters()
                if name != 'lm_head.weight' or not self.config.tied)

    def hidden(self, idx, cache=None, pos=None, newest=0, layers=0):
        """idx (B, T) token ids, following those in the cache, at pos (T,) or (B, T) -> (B, n, C), after ln_f.

        n is `newest`, the last rows alone, or T for 0. `layers`: so many from below, 0 is all.
        """
        T, past = idx.size(1), 0 if cache is None else cache.offset + cache.length
        if past + T > self.config.block_size:
            size = self.config.block_size
            raise ValueError(f"{past + T} tokens are longer than the model's context of {size}: shorten them")
        if cache is not None:
            cache.begin(idx)
        x, at = self.transformer.wte(idx), None  # (B, T, C)
        compiled = self.state.compiled(self, x, cache) if pos is None and not layers else None
        if pos is None:
            pos = torch.arange(past, past + T, device=idx.device)
        if self.rotary is None:
            x = x + self.transformer.wpe(pos)
        else:  # a reading layer can change rows of the past, which then go on at their own positions
            changes = cache is not None and cache.changes_past
            at = self.rotary.at(torch.arange(cache.end, device=idx.device) if changes else pos)
        x = self.transformer.drop(x)
        blocks = list(self.transformer.h)[:layers or None]
        if compiled is not None:
            x = compiled.step(x, at, cache)
        else:
            for block in blocks:
                x = block(x, at, cache, (newest or T) if block is blocks[-1] else 0)
            x = self.transformer.ln_f(x)
        if cache is not None:
            cache.length = cache.end
        return x

    def forward(self, idx, targets=None, cache=None, pos=None):
        """Next-token logits.

        idx (B, T) int64, with a `cache` (core/cache.py) the tokens that follow those in it; targets (B, T)
        int64, -1 ignored; pos (B, T) int64: their positions, None is one after the other. -> logits
        (B, 1, vocab_size) of the last token and None; with targets logits (B, T, vocab_size) and their mean
        cross entropy in nats. Raises ValueError for more tokens than block_size. `searches` counts this call.
        """
        cache = self.begin(cache, idx.size(1))
        before = None
        if cache is not None and cache.recaller is not None and cache.length == 0:
            before = cache.recaller.recall(self, idx, cache)  # a header, read before what was recalled
        h = 0 if before is None else before.size(1)
        x = self.hidden(idx[:, h:], cache, pos, newest=1 if targets is None else 0)
        if targets is None:
            return self.lm_head(x), None
        logits = self.lm_head(x if h == 0 else torch.cat((before.expand(len(x), -1, -1), x), dim=1))
        return logits, F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-1)

    # ---- the memory ----

    def begin(self, cache, T):
        """A call begins -> its cache, which reads what is attached now, whatever comes meanwhile; or None."""
        reads = id(self) not in plain_now.get()
        readers = {n: one for n, one in self.readers.items() if len(one.memory)} if reads else {}
        recaller = self.recaller if reads and self.recaller and len(self.recaller.memory) else None
        if cache is None and (readers or recaller):
            cache = Cache(T)  # a reader keeps its rows there
        if cache is not None:
            goes_on = cache.length > 0
            if goes_on and (cache.recaller is not recaller or recaller is None and cache.readers != readers):
                raise ValueError("the cache was filled with another memory, or with none: begin a new one")
            cache.recaller, cache.readers = recaller, cache.readers if goes_on else readers
            cache.counts.begin(readers if recaller is None else recaller.index_layers)
        if not self.training:
            counts_of_last_call()[self] = Counts() if cache is None else cache.counts
        return cache

    @property
    def searches(self):
        """{layer: token-heads looked up} in this thread's last forward or generate."""
        return counts_of_last_call().get(self, Counts()).searches

    @property
    def picks(self):
        """{layer: token-heads picked, added up over the steps} in this thread's last forward or generate."""
        return counts_of_last_call().get(self, Counts()).picks

    @property
    def recalled(self):
        """Method 5: for each row of this thread's last forward or generate [(step, text numbers, votes)], a
        step being the tokens written by then; the numbers are () where nothing was recalled."""
        return counts_of_last_call().get(self, Counts()).recalled

    def attach_memory(self, memory, layers=None, heads=Reading.heads, k=Reading.k,
                      method=Reading.method, memory_fraction=Reading.memory_fraction,
                      bookkeeping_fraction=Reading.bookkeeping_fraction, softmax_scale=Reading.softmax_scale,
                      residual_fraction=Reading.residual_fraction, select=Reading.select,
                      positions=Reading.positions, distance=Reading.distance, index_heads=Reading.index_heads,
                      recall_texts=Reading.recall_texts, recall_votes=Reading.recall_votes,
                      recall_threshold=Reading.recall_threshold, recall_every=Reading.recall_every,
                      index=Reading.index, recall_candidates=Reading.recall_candidates,
                      recall_neighbours=Reading.recall_neighbours):
        """Lets `layers` read `memory` from now on, in place of any before; see Reading. Undo: detach_memory.

        memory: PersistentMemory that this model wrote, with these layers; an empty one changes nothing until
        texts are added. layers None: (9,), or all for method 5. Raises ValueError that names what does not
        fit, and leaves the model as it was.
        """
        layers = layers if layers is not None else () if method == 5 else Reading.layers
        self.attach(memory, Reading(layers, heads, k, method, memory_fraction, bookkeeping_fraction,
                                    softmax_scale, residual_fraction, select, positions, distance,
                                    index_heads, recall_texts, recall_votes, recall_threshold, recall_every,
                                    index, recall_candidates, recall_neighbours))

    def attach(self, memory, reading):
        """attach_memory, of a Reading."""
        memory.check(self)
        reading.check_model(self.config.n_layer, self.config.n_head, self.rotary is not None)
        memory.check_reading(reading.layers, reading.method, reading.index_heads)
        if reading.method == 5:
            self.readers, self.recaller = {}, Recaller(memory, reading, self.config, self.rotary)
            return
        self.recaller = None
        self.readers = readers_of(memory, reading, self.config.n_head, self.rotary)

    def detach_memory(self):
        """Back to exactly the plain model."""
        self.readers, self.recaller = {}, None

    @contextlib.contextmanager
    def plain(self):
        """Within it this thread's calls read no memory."""
        token = plain_now.set(plain_now.get() | {id(self)})
        try:
            yield
        finally:
            plain_now.reset(token)

    @torch.no_grad()
    def heads_of(self, idx, layers, cache=None):
        """What plain layers make of idx (B, T), before a rotation: {layer: (queries, keys, values)}.

        (B, nh, T, hs) queries, (B, nkv, T, hs) keys and values. Layers above the last of them are not run.
        """
        cache = cache or Cache(idx.size(1))  # or of the tokens before, which came this way too
        cache.readers, cache.kept_layers = {}, layers
        self.hidden(idx, cache, newest=1, layers=max(layers) + 1)
        return cache.kept

    def generate(self, idx, max_new_tokens, temperature=1.0, top_k=None, seeds=None, end_ids=(),
                 question=None, told=None, drop_half=False):
        """Continues idx (B, T) int64 by max_new_tokens -> (B, T + max_new_tokens), fewer if all rows end.

        temperature: > 0. top_k: draw from the k likeliest, None is all, 1 is greedy. seeds: an int a row,
        which then gets what nanoGPT draws for it alone after torch.manual_seed(seed); None: torch's own.
        end_ids: a row ends with one, and is filled up with it. question: method 5, (first, end) of tokens
        that vote, None is all behind the header. told: is called with each step's (b, 1). drop_half: past
        block_size half of the context goes at once, not its first token at each step. Raises ValueError.
        """
        check_ids(idx, self.config.vocab_size)
        check_writing(max_new_tokens, temperature, top_k)
        ends = check_end_ids(end_ids, self.config.vocab_size)
        writing = Writing(max_new_tokens, temperature, top_k, generators_of(seeds, idx), ends, told)
        size = min(idx.size(1) + max_new_tokens, self.config.block_size)
        cache = self.begin(Cache(size, drop_half=drop_half), idx.size(1))
        with torch.inference_mode():
            if cache.recaller is None:
                rows = write(self.newest_logits, cache, idx, writing)
            else:
                rows = cache.recaller.write(self, cache, idx, writing, question)
        return rows.clone()  # an ordinary tensor, as those of inference mode are not

    def newest_logits(self, idx, cache):
        """(B, vocab_size) of the last of idx (B, T)."""
        return self.lm_head(self.hidden(idx, cache, newest=1)[:, -1])

    # ---- weights in and out, core/weights.py; frozen or not, and which model this is, core/frozen.py ----

    @classmethod
    def from_pretrained(cls, source, device='cpu', dtype=torch.float32):
        """Hub name, Hugging Face's folder, .gguf file, 'smollm2'; frozen. Raises ValueError, OSError."""
        return cls.of_weights(*weights.load(source), device, dtype)

    @classmethod
    def from_checkpoint(cls, path, device='cpu', dtype=torch.float32):
        """nanoGPT's ckpt.pt, or train.py's; frozen. Raises ValueError, OSError."""
        return cls.of_weights(*weights.load_checkpoint(path), device, dtype)

    @classmethod
    def of_weights(cls, sizes, state, device='cpu', dtype=torch.float32):
        """Fields of GPTConfig, {name: float32 tensor}, each read once -> GPT, frozen, known before casts."""
        with weights.Unfilled():
            model = cls(GPTConfig(**sizes)).eval()
        model.state.fill(model, state, device, dtype)
        return model

    def save_pretrained(self, folder, dtype=torch.float32):
        """Hugging Face's config.json and model.safetensors, each whole. Raises ValueError, OSError."""
        weights.save(self.config, self.state_dict(), folder, dtype)

    def freeze(self, rounded=None):
        """For inference from now on: keeps its name, packs -> self; see WeightState. Undo: unfreeze."""
        return self.state.freeze(self, rounded)

    def unfreeze(self):
        """Trainable again -> self. While frozen, training and other weights are refused: ValueError."""
        return self.state.unfreeze(self)

    def fingerprint(self):
        """A hash of every number of the weights, as before any cast; see WeightState.fingerprint."""
        return self.state.fingerprint(self)

    def train(self, mode=True):
        if mode:
            self.state.check_free('cannot be trained')
        return super().train(mode)

    def load_state_dict(self, state, strict=True, assign=False):
        self.state.check_free('takes no other weights')
        return super().load_state_dict(state, strict, assign)

    def _apply(self, fn, recurse=True):  # what to(), cuda(), bfloat16() and their like do to every parameter
        with self.state.of_same_model(self):
            return super()._apply(fn, recurse)
