"""
The method on rotary models with grouped heads: the definition computed slowly, chunks, batches, positions,
and a text that is read as if it stood in the prompt.

$ python -m pytest tests/test_rotary.py
"""
import math

import pytest
import torch
from conftest import PROMPT, REMEMBERED, slow_pick, slow_value

from core.cache import Cache
from memory import PersistentMemory
from model import GPT, GPTConfig
from reader import grouped

FAMILIES = {
    'llama': dict(),
    'qwen2': dict(bias_attn=True, tied=False),
    'qwen3': dict(qk_norm=True, head_size=12),
    'llama 3': dict(rope_theta=500.0, rope_scaling=(8.0, 1.0, 4.0, 16)),
    'every head its own keys': dict(n_kv_head=4, bias_proj=True, bias_mlp=True,
                                    rope_factors=(1.0, 1.5, 4.0, 8.0)),
}
SETTINGS = {
    'method 1': dict(layers=(0, 1, 2), method=1, k=3, memory_fraction=1.0, bookkeeping_fraction=0.1,
                     softmax_scale=1.0),
    'method 2': dict(layers=(1,), method=2, k=2, memory_fraction=0.0, bookkeeping_fraction=0.0,
                     softmax_scale=3.0),
    'method 3': dict(layers=(0, 1), heads=(1, 2), method=3, k=5, memory_fraction=5.0,
                     bookkeeping_fraction=0.5, softmax_scale=0.5, residual_fraction=0.33),
    'method 4, far': dict(layers=(0, 1, 2), method=4, k=4, softmax_scale=1.5, distance=20),
    'method 4, own': dict(layers=(1,), heads=(0, 3), method=4, k=5, softmax_scale=1.0, positions='own'),
    'method 4, insert': dict(layers=(0, 2), method=4, k=6, softmax_scale=1.0, positions='insert'),
    'method 4, all': dict(layers=(0, 2), heads=(0, 1, 3), method=4, k=99, softmax_scale=1.2,
                          positions='insert'),
}
# every row of method 4 reads for itself, so that `select` says nothing there
READINGS = [(name, select) for name in SETTINGS for select in ('last', 'each')
            if 'method 4' not in name or select == 'each']


def tiny_family(family, seed=0, **more):
    torch.manual_seed(seed)
    sizes = dict(block_size=40, vocab_size=48, n_layer=3, n_head=4, n_kv_head=2, n_embd=20, head_size=8,
                 n_inner=24, mlp='silu', norm='rms', position='rotary', bias=False, name=family)
    model = GPT(GPTConfig(**sizes | FAMILIES[family] | more)).eval()
    # fresh weights attend almost evenly, and a memory would hardly matter
    with torch.no_grad():
        for block in model.transformer.h:
            block.attn.c_attn.weight.mul_(18)
            block.mlp.c_fc.weight.mul_(8)
            block.mlp.c_proj.weight.mul_(8)
            for norm in (block.attn.q_norm, block.attn.k_norm):
                if norm is not None:
                    norm.weight.mul_(2).add_(0.3 * torch.randn_like(norm.weight))
        model.transformer.wte.weight.mul_(10)
        model.lm_head.weight.mul_(1 if model.config.tied else 10)
        for name, p in model.named_parameters():
            if name.endswith('.bias'):
                p.normal_(0, 0.3)
    return model


@pytest.fixture(params=FAMILIES)
def model(request):
    return tiny_family(request.param)


@pytest.fixture
def memory(model):
    memory = PersistentMemory.from_tokens(model, REMEMBERED, layers=(0, 1, 2))
    memory.add(model, REMEMBERED[:1] + REMEMBERED[5:10])  # two texts: of 13 and 5 rows
    return memory


# ---- the definition, with loops ----

def slow_turn(x, positions, config):
    """x (T, hs) as complex numbers, turned by angles: an oracle of another make than core/rotary.py."""
    half = x.size(-1) // 2
    frequencies = torch.tensor([slow_frequency(n, config) for n in range(half)])
    angles = torch.as_tensor(positions)[:, None] * frequencies
    turned = torch.complex(x[:, :half], x[:, half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), dim=-1)


def slow_frequency(n, config):
    frequency = config.rope_theta ** (-2 * n / config.head_size)
    if not config.rope_scaling:
        return frequency / (config.rope_factors[n] if config.rope_factors else 1)
    factor, low, high, context = config.rope_scaling
    wavelength = 2 * math.pi / frequency
    if wavelength < context / high:
        return frequency
    if wavelength > context / low:
        return frequency / factor
    smooth = (context / wavelength - low) / (high - low)
    return (1 - smooth) * frequency / factor + smooth * frequency


def slow_rms(norm, x):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + norm.epsilon) * norm.weight


def slow_mlp(mlp, x):
    gate, up = (mlp.c_fc.weight @ x.T).T.add(0 if mlp.c_fc.bias is None else mlp.c_fc.bias).chunk(2, dim=-1)
    return mlp.c_proj(gate * torch.sigmoid(gate) * up)


def slow_logits(model, memory, idx, layers, heads=(), k=5, method=2, memory_fraction=0.0,
                bookkeeping_fraction=0.9, softmax_scale=1000.0, residual_fraction=0.1, select='last',
                positions='', distance=512):
    """idx list of int -> logits (T, vocab_size)."""
    c, picks = model.config, (memory_fraction, bookkeeping_fraction)
    scales = softmax_scale, residual_fraction
    x, T = model.transformer.wte.weight[idx], len(idx)
    sizes = [c.n_head * c.head_size] + 2 * [c.n_kv_head * c.head_size]  # of queries, keys, values
    for layer, block in enumerate(model.transformer.h):
        flat = block.attn.c_attn(slow_rms(block.ln_1, x)).split(sizes, dim=-1)
        q, kk, v = (part.view(T, -1, c.head_size) for part in flat)
        if c.qk_norm:
            q, kk = slow_rms(block.attn.q_norm, q), slow_rms(block.attn.k_norm, kk)
        ys = []
        for h in range(c.n_head):
            kv = h // (c.n_head // c.n_kv_head)
            reads = layer in layers and (not heads or h in heads)
            stored = (memory.keys[layer][kv], memory.values[layer][kv]) if reads else None
            turned = slow_turn(q[:, h], range(T), c), slow_turn(kk[:, kv], range(T), c)
            one = (*turned, q[:, h], kk[:, kv], v[:, kv])
            if method == 4 and stored is not None:
                where = positions or 'far', distance
                ys.append(slow_extended(*one, *stored, memory, k, softmax_scale, *where, c))
            else:
                ys.append(slow_head(*one, stored, k, method, picks, *scales, select))
        x = x + block.attn.c_proj(torch.cat(ys, dim=-1))
        x = x + slow_mlp(block.mlp, slow_rms(block.ln_2, x))
    return model.lm_head(slow_rms(model.transformer.ln_f, x))


def slow_head(q, k, plain_q, plain_k, v, stored, K, method, picks, TS, RF, select):
    """Eq. 1 and Eq. 4 of what is turned, search and Eq. 5 of what is not: (T, hs) each -> y (T, hs)."""
    T, hs = q.shape
    y, S = torch.zeros_like(q), [torch.softmax(q[i] @ k[:i + 1].T / math.sqrt(hs), dim=0) for i in range(T)]
    for i in range(T):
        for j in range(i + 1):
            row = T - 1 if select == 'last' else i
            picked = stored is not None and slow_pick(S[row][j].item(), j, row + 1, *picks)
            own = plain_q[j], plain_k[j], v[j]
            y[i] += S[i][j] * (slow_value(*own, *stored, K, method, TS, RF) if picked else v[j])
    return y


def slow_extended(q, k, plain_q, plain_k, v, keys, values, memory, K, TS, positions, distance, config):
    y, lengths = torch.zeros_like(q), [text['rows'] for text in memory.texts]
    header, places = memory.bookkeeping_tokens, []
    for n in lengths:  # of the stored keys, which stand after the header, at the prompt's start
        places += range(header, header + n) if positions == 'own' else range(header - n, header)
    stored = keys if positions == 'far' else slow_turn(keys, places, config)
    for i in range(len(q)):
        context, query = k[:i + 1].clone(), q[i]
        if positions == 'insert' and i < header:
            y[i] = torch.softmax(context @ query / math.sqrt(len(query)), dim=0) @ v[:i + 1]
            continue
        if positions == 'insert':
            context[:header] = slow_turn(plain_k[:header], [n - max(lengths) for n in range(header)], config)
        if positions == 'far':
            query = slow_turn(plain_q[i:i + 1], [distance], config)[0]
        best = (stored @ query).argsort(descending=True)[:K]
        scores = torch.cat((TS * (stored[best] @ query), context @ q[i])) / math.sqrt(len(query))
        y[i] = torch.softmax(scores, dim=0) @ torch.cat((values[best], v[:i + 1]))
    return y


@pytest.mark.parametrize(('name', 'select'), READINGS)
def test_logits_equal_the_definition(model, memory, name, select):
    model.attach_memory(memory, **SETTINGS[name], select=select)
    logits, _ = model(torch.tensor([PROMPT]), targets=torch.tensor([PROMPT]))
    expected = slow_logits(model, memory, PROMPT, **SETTINGS[name], select=select)
    torch.testing.assert_close(logits[0], expected, atol=2e-4, rtol=2e-4)
    plain = slow_logits(model, memory, PROMPT, layers=())
    assert (expected - plain).abs().max() > 1e-2, 'the memory must matter, or the comparison proves nothing'


@pytest.mark.parametrize(('name', 'select'), READINGS)
def test_a_token_at_a_time_is_all_at_once_and_a_row_of_a_batch_that_row_alone(model, memory, name, select):
    model.attach_memory(memory, **SETTINGS[name], select=select)
    alone = [model(torch.tensor([PROMPT[:end]]))[0] for end in range(1, len(PROMPT) + 1)]
    for steps in ([4, 1, 1, 1, 1, 1, 1, 1, 1], [1, 5, 6], [11, 1]):
        cache, end = Cache(len(PROMPT)), 0
        for n in steps:
            end += n
            logits = model(torch.tensor([PROMPT[end - n:end]]), cache=cache)[0]
            torch.testing.assert_close(logits, alone[end - 1], atol=2e-4, rtol=2e-4)
    rows = [PROMPT, PROMPT[::-1], [7] * len(PROMPT)]
    texts = model.generate(torch.tensor(rows), 30, 0.9, 20, [1, 2, 3])  # past the end of the context
    for row, seed, text in zip(rows, (1, 2, 3), texts, strict=True):
        assert model.generate(torch.tensor([row]), 30, 0.9, 20, [seed])[0].tolist() == text.tolist()


@pytest.mark.parametrize('name', ['method 3', 'method 4, far'])
def test_a_prompt_that_all_rows_share_writes_what_each_seed_writes_alone(model, memory, name):
    idx = torch.tensor([PROMPT])
    model.attach_memory(memory, **SETTINGS[name], select='each')
    together, searched = model.generate(idx.expand(3, -1), 8, 0.9, 20, [4, 5, 6]), dict(model.searches)
    rows = [(model.generate(idx, 8, 0.9, 20, [seed])[0], dict(model.searches)) for seed in (4, 5, 6)]
    assert [row.tolist() for row in together] == [row.tolist() for row, _ in rows]
    assert searched == {layer: sum(counts[layer] for _, counts in rows) for layer in searched}
    assert len({tuple(row) for row in together.tolist()}) == 3


@pytest.mark.parametrize('name', ['method 2', 'method 4, insert'])
def test_a_memory_that_was_saved_and_loaded_reads_the_same_bits(model, memory, name, tmp_path):
    model.attach_memory(memory, **SETTINGS[name])
    idx = torch.tensor([PROMPT])
    expected = model(idx, targets=idx)[0]
    memory.save(tmp_path / 'm.safetensors')
    loaded = PersistentMemory.load(tmp_path / 'm.safetensors', model)
    c = model.config
    assert loaded.keys[1].shape == (c.n_kv_head, 18, c.head_size) and loaded.origin == memory.origin
    model.attach_memory(loaded, **SETTINGS[name])
    assert torch.equal(model(idx, targets=idx)[0], expected)
    model.detach_memory()
    assert not torch.equal(model(idx, targets=idx)[0], expected)


@pytest.mark.parametrize('positions', ['far', 'own', 'insert'])
def test_a_prompt_read_some_rows_at_once_is_the_prompt_read_whole(model, memory, positions, monkeypatch):
    idx = torch.tensor([PROMPT, PROMPT[::-1]])
    model.attach_memory(memory, (0, 2), k=99, method=4, softmax_scale=1.0, positions=positions, distance=20)
    expected = model(idx, targets=idx)[0]
    monkeypatch.setattr('extended.ROWS_A_BLOCK', 5)
    torch.testing.assert_close(model(idx, targets=idx)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize('header', [1, 3])
def test_an_inserted_text_is_the_text_in_the_prompt(model, header):
    header_ids, text, question = REMEMBERED[:header], REMEMBERED[3:11], PROMPT
    layers = 0, 1, 2
    memory = PersistentMemory.from_tokens(model, header_ids + text, layers, bookkeeping_tokens=header)
    idx, whole = torch.tensor([header_ids + question]), torch.tensor([header_ids + text + question])
    expected = model(whole, targets=whole)[0]
    plain = model(idx, targets=idx)[0]
    # k is beyond what is stored: as in the prompt, every row sees the whole text
    model.attach_memory(memory, layers, k=100, method=4, softmax_scale=1.0, positions='insert')
    read = model(idx, targets=idx)[0]
    torch.testing.assert_close(read[:, header:], expected[:, header + len(text):], atol=1e-4, rtol=0)
    torch.testing.assert_close(read[:, :header], plain[:, :header], atol=1e-4, rtol=0)
    assert (read - plain).abs().max() > 0.1
    cache = Cache(idx.size(1))
    # and so by the cache
    for ids in (idx[:, :header + 2], idx[:, header + 2:header + 3], idx[:, header + 3:]):
        logits = model(ids, cache=cache)[0]
    torch.testing.assert_close(logits[:, 0], expected[:, -1], atol=1e-4, rtol=0)


def test_keys_are_kept_as_before_the_rotation(model):
    same = [9] * 6
    keys = PersistentMemory.from_tokens(model, [5, *same], layers=(0,)).keys[0]
    # layer 0 sees no positions
    torch.testing.assert_close(keys, keys[:, :1].expand_as(keys), atol=1e-5, rtol=1e-5)


def test_a_memory_of_one_family_is_refused_by_another(memory, model, tmp_path):
    memory.save(tmp_path / 'm.safetensors')
    with pytest.raises(ValueError, match='memory was written by'):
        PersistentMemory.load(tmp_path / 'm.safetensors', tiny_family('llama', seed=5))
    with pytest.raises(ValueError, match='n_kv_head'):
        other = GPT(GPTConfig(**{**vars(model.config), 'n_kv_head': 1}))
        other.attach_memory(memory, layers=(0,))


@pytest.mark.parametrize(('nh', 'nkv'), [(4, 4), (6, 2)])
def test_products_with_keys_that_lie_among_values_are_those_of_each_head(nh, nkv):
    kv, x = torch.randn(3, 2 * nkv, 9, 8)[:, :, :7], torch.randn(3, nh, 2, 8)
    for y in (*kv.chunk(2, dim=1), torch.randn(3, nkv, 7, 8)):
        slow = [torch.stack([x[b, h] @ y[b, h * nkv // nh].T for h in range(nh)]) for b in range(3)]
        torch.testing.assert_close(grouped(x, y.transpose(-2, -1)), torch.stack(slow))
        of_all = grouped(x[:1].expand(3, -1, -1, -1), y[:1].transpose(-2, -1))  # what a batch shares
        torch.testing.assert_close(of_all, slow[0].expand(3, -1, -1, -1))
