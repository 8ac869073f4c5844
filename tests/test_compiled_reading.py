"""
A memory read by compiled layers: what torch reads, by each method.

$ python -m pytest tests/test_compiled_reading.py
"""
import functools
import math

import pytest
import torch
from conftest import REMEMBERED
from test_compiled import a_model, logits_of, some_ids
from test_families import VARIANTS

from core import kernel
from core.cache import Cache
from memory import PersistentMemory, describe
from reader import Heads, Reader, Reading

READINGS = {'method 3': {'method': 3}, 'method 1': {'method': 1, 'heads': (1,)},
            'method 2, bookkeeping alone': {'method': 2, 'memory_fraction': 0.0, 'residual_fraction': 0.3},
            'method 4': {'method': 4, 'softmax_scale': 1.0},
            'method 4, some': {'method': 4, 'softmax_scale': 2.0, 'heads': (0, 1), 'k': 500},
            'method 4, none of it weighs': {'method': 4, 'softmax_scale': 0.0, 'k': 9},
            'method 4, own': {'method': 4, 'softmax_scale': 1.0, 'positions': 'own', 'k': 300},
            'method 4, inserted': {'method': 4, 'softmax_scale': 1.0, 'positions': 'insert', 'k': 500},
            'method 4, for some': {'method': 4, 'softmax_scale': 1.0, 'positions': 'insert', 'k': 500,
                                   'heads': (1,)},
            'last': {'method': 2, 'select': 'last'}}
pytestmark = pytest.mark.skipif(kernel.library() is None, reason='no C++ compiler is here')


@pytest.fixture(params=['gpt2', *VARIANTS])
def model(request):
    return a_model(request.param)


@pytest.mark.parametrize('reads', READINGS)
@pytest.mark.parametrize('remembered', [REMEMBERED, 21 * REMEMBERED])  # more than a thread's at once
def test_a_step_of_a_model_that_reads_a_memory_gives_the_logits_of_torch(model, reads, remembered, by_torch,
                                                                         steps):
    settings = {'select': 'each', 'memory_fraction': 5.0, 'bookkeeping_fraction': 0.1, **READINGS[reads]}
    if model.rotary is None:
        settings.pop('positions', None)
    memory = PersistentMemory.from_tokens(model, remembered, (1, 2), bookkeeping_tokens=3)
    model.attach_memory(memory, (1, 2), **settings)
    idx = some_ids(2, 20)
    found, counted = logits_of(model, idx, 6), (model.searches, model.picks)
    assert len(steps) == (0 if reads == 'last' else 14), "'last' changes rows of the past: torch's"
    expected = by_torch(lambda: logits_of(model, idx, 6))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    for a, b in zip(counted, (model.searches, model.picks)):  # rounding may take one over the threshold
        assert a == {layer: pytest.approx(n, abs=1) for layer, n in b.items()}
    assert min(counted[1].values()) > 0 or 'alone' in reads
    model.detach_memory()
    assert not torch.allclose(logits_of(model, idx, 6), found, atol=1e-3), 'the memory does nothing here'


@pytest.mark.parametrize('change', [lambda model, memory: memory.forget(0),
                                    lambda model, memory: memory.add(model, REMEMBERED[::-1])])
@pytest.mark.parametrize('settings', [{'method': 2, 'memory_fraction': 5.0, 'select': 'each'},
                                      {'method': 4, 'k': 99, 'softmax_scale': 1.0},
                                      {'method': 4, 'k': 3, 'softmax_scale': 1.0, 'positions': 'insert'}])
def test_what_is_forgotten_or_added_meanwhile_counts_from_the_next_token(settings, change, by_torch, steps):
    model = a_model('llama, grouped heads')
    idx = some_ids(2, 12)

    def logits():
        memory = PersistentMemory.from_tokens(model, REMEMBERED, (0, 1))
        memory.add(model, REMEMBERED[:1] + REMEMBERED[5:10])
        model.attach_memory(memory, (0, 1), **settings)
        cache = Cache(12)
        with torch.inference_mode():
            model(idx[:, :6], cache=cache)
            model(idx[:, 6:7], cache=cache)
            change(model, memory)
            return torch.cat([model(one, cache=cache)[0] for one in idx[:, 7:].split(1, dim=1)], dim=1)
    found, expected = logits(), by_torch(logits)
    assert steps
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('settings', [{'method': 2, 'memory_fraction': 5.0, 'select': 'each'},
                                      {'method': 4, 'k': 99, 'softmax_scale': 1.0, 'positions': 'insert'}])
def test_a_memory_that_is_emptied_while_a_text_is_written_is_read_no_more(settings, by_torch, steps):
    model, idx = a_model('llama, grouped heads'), some_ids(1, 6)
    plain = model.generate(idx, 12, top_k=1).tolist()

    def written():
        memory = PersistentMemory.from_tokens(model, REMEMBERED, (0,))
        model.attach_memory(memory, (0,), **settings)
        return model.generate(idx, 12, top_k=1, told=lambda drawn: len(memory) and memory.forget(0)).tolist()
    found = written()
    assert steps and found == by_torch(written) != plain


@pytest.mark.parametrize('header', [3, 270])  # the second more than a thread attends to at once
@pytest.mark.parametrize('settings', [{'method': 3, 'memory_fraction': 5.0, 'select': 'each'},
                                      {'method': 4, 'k': 99, 'softmax_scale': 1.0, 'positions': 'insert'},
                                      {'method': 4, 'k': 3, 'softmax_scale': 1.0, 'positions': 'far'}])
def test_behind_a_long_context_a_step_gives_the_logits_of_torch(settings, header, by_torch, steps):
    model, idx = a_model('llama, grouped heads'), some_ids(2, 580)
    remembered = idx[0, :header].tolist() + REMEMBERED
    memory = PersistentMemory.from_tokens(model, remembered, (0, 1), bookkeeping_tokens=header)
    model.attach_memory(memory, (0, 1), **settings)
    found = logits_of(model, idx, 575)
    assert len(steps) == 5
    torch.testing.assert_close(found, by_torch(lambda: logits_of(model, idx, 575)), atol=1e-4, rtol=1e-4)
    model.detach_memory()
    assert not torch.allclose(logits_of(model, idx, 575), found, atol=1e-3)


def test_a_memory_is_read_the_same_with_any_number_of_threads():
    model, idx, before = a_model('llama, grouped heads'), some_ids(2, 30), torch.get_num_threads()
    memory = PersistentMemory.from_tokens(model, 21 * REMEMBERED, (0, 1))
    try:
        for settings in ({'method': 3, 'memory_fraction': 5.0, 'select': 'each'},
                         {'method': 4, 'k': 500, 'softmax_scale': 1.0}, {'method': 4, 'k': 9}):
            model.attach_memory(memory, (0, 1), **settings)
            found = []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                found.append(logits_of(model, idx, 29))
            assert all(torch.equal(a, found[0]) for a in found)
    finally:
        torch.set_num_threads(before)


def logits_with(model, keys, values, **settings):
    """Behind 6 of 9 tokens; keys and values (nkv, M, hs) stored of layer 0."""
    memory = PersistentMemory.from_tokens(model, REMEMBERED, (0,))
    model.attach_memory(PersistentMemory.from_rows(memory.origin, {0: (keys, values)}), (0,), method=4,
                        softmax_scale=1.0, **settings)
    return logits_of(model, some_ids(2, 9), 6)


def test_of_stored_keys_whose_products_float32_can_not_tell_apart_the_largest_are_read(by_torch, steps):
    model, g = a_model('gpt2'), torch.Generator().manual_seed(0)
    nh, hs = model.config.n_head, model.config.head_size
    one, more = torch.randn(nh, 1, hs, generator=g), torch.randn(2, nh, 3000, hs, generator=g)
    keys, values = one + 3e-7 * more[0], 9 * more[1]
    found = logits_with(model, keys, values, k=40)
    assert steps
    expected = by_torch(lambda: logits_with(model, keys, values, k=40))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('k', [3, 99])
def test_a_stored_key_that_is_no_number_ends_no_process(k, steps):
    model, g = a_model('gpt2'), torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, model.config.n_head, 30, model.config.head_size, generator=g)
    keys[:, 7] = math.nan
    assert logits_with(model, keys, values, k=k).shape == (2, 3, 96) and steps


@pytest.mark.parametrize('positions', ['far', 'insert'])
def test_a_step_behind_a_recalled_text_gives_the_logits_of_torch(positions, by_torch, steps):
    model, heads = a_model('llama, grouped heads'), ((0, 1), (1, 2))
    memory = PersistentMemory(describe(model), (0, 1, 2), 1, '', heads)
    for text in [3, *some_ids(1, 13)[0].tolist()], [3, *range(20, 33)]:
        memory.add(model, text, '', '')
    model.attach_memory(memory, method=5, positions=positions, index_heads=heads)
    idx = torch.cat((torch.full((20, 1), 3), some_ids(20, 16)), dim=1)
    model(idx[:, :8])
    recalled = [row[0][1] for row in model.recalled]
    idx = idx[[recalled.index((0,)), recalled.index((1,))]]  # another text for each row
    found = logits_of(model, idx, 8)
    assert len(steps) == 9 and [row[0][1] for row in model.recalled] == [(0,), (1,)]
    torch.testing.assert_close(found, by_torch(lambda: logits_of(model, idx, 8)), atol=1e-4, rtol=1e-4)
    model.detach_memory()
    assert not torch.allclose(logits_of(model, idx, 8), found, atol=1e-3)


def test_a_recalled_text_without_rows_is_read_as_none(steps):
    model, heads = a_model('llama, grouped heads'), ((0, 1), (1, 2))
    memory = PersistentMemory(describe(model), (0, 1, 2), 1, '', heads)
    for text in [3], [3, *range(20, 33)]:
        memory.add(model, text, '', '')
    model.attach_memory(memory, method=5, positions='far', index_heads=heads)
    assert logits_of(model, torch.tensor([[3, 50, 51, 52]]), 2).shape == (1, 2, 96)


def test_while_the_header_of_an_inserted_text_is_written_torch_computes(by_torch, steps):
    model = a_model('llama, grouped heads')
    memory = PersistentMemory.from_tokens(model, REMEMBERED, (0, 1), bookkeeping_tokens=5)
    model.attach_memory(memory, (0, 1), method=4, positions='insert', k=50, softmax_scale=1.0)
    idx = some_ids(2, 12)
    found = logits_of(model, idx, 2)
    assert len(steps) == 7, 'the tokens behind the header'
    torch.testing.assert_close(found, by_torch(lambda: logits_of(model, idx, 2)), atol=1e-4, rtol=1e-4)


# ---- one layer, beside reader.py's own way ----

def some_heads(T, S, B=2, nh=4, nkv=2, hs=8):
    """Of T tokens, the newest of S, whose attention is even: thresholds of Eq. 4 cut through it."""
    g = torch.Generator().manual_seed(S)
    sizes = (nh, T), (nkv, S), (nkv, S), (nh, S), (nkv, S)
    return Heads(*(torch.randn(B, heads, rows, hs, generator=g) for heads, rows in sizes))


def read(heads, stored, reading):
    """y, change, known, searches and picks of the newest tokens."""
    (B, nh, T, _), S = heads.q.shape, heads.k.size(2)
    cache = Cache(S)
    cache.length, cache.end, cache.first = S - T, S, torch.full((B,), S - T)
    cache.rows[0, 'queries'] = heads.plain_q.clone()
    cache.counts.begin((0,))
    y = Reader(stored, 0, reading, nh).attend(heads._replace(plain_q=heads.plain_q[:, :, -T:]), cache)
    return y, cache.rows[0, 'change'], cache.rows[0, 'known'], cache.searches[0], cache.picks[0]


def memory_of(keys, values):
    origin = {'n_layer': 1, 'n_head': 4, 'n_kv_head': 2, 'head_size': 8}
    return PersistentMemory.from_rows(origin, {0: (keys, values)})


@pytest.mark.parametrize('method', [1, 2, 3])
@pytest.mark.parametrize(('MF', 'BF'), [(0, 0.1), (0, 1), (0.5, 0.001), (1, 0.05), (5, 0.1), (1e6, 0)])
def test_what_is_picked_found_and_blended_is_what_torch_picks_finds_and_blends(method, MF, BF, by_torch):
    g = torch.Generator().manual_seed(0)
    stored = memory_of(*torch.randn(2, 2, 30, 8, generator=g))
    for T, S, heads in ((1, 2, ()), (1, 9, (0, 3)), (1, 40, (2,)), (9, 9, (0, 1, 3)), (30, 200, ())):
        reading = Reading((0,), heads, 4, method, MF, BF, 1.5, 0.3, 'each')
        given = some_heads(T, S)
        y, change, *found = read(given, stored, reading)
        y_by_torch, change_by_torch, *expected = by_torch(functools.partial(read, given, stored, reading))
        assert found[1:] == expected[1:] and torch.equal(found[0], expected[0])
        torch.testing.assert_close(y, y_by_torch, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(change, change_by_torch, atol=1e-5, rtol=1e-5)


def test_of_equal_keys_the_first_are_found_compiled_or_not(by_torch):
    keys, values = torch.randn(2, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    stored, given = memory_of(keys.repeat(1, 6, 1), torch.randn(2, 30, 8)), some_heads(1, 9)
    reading = Reading((0,), (), 4, 2, 1e6, 0.0, 0.0, 0.0, 'each')
    found, expected = read(given, stored, reading)[1], by_torch(lambda: read(given, stored, reading)[1])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_keys_that_are_no_numbers_are_the_farthest():
    keys, values = torch.randn(2, 2, 30, 8, generator=torch.Generator().manual_seed(0))
    keys[:, ::2] = math.nan
    given, reading = some_heads(1, 9), Reading((0,), (), 15, 2, 1e6, 0.0, 0.0, 0.0, 'each')
    expected = values[:, 1::2].mean(1).repeat_interleave(2, 0) - given.v[0, :, -1].repeat_interleave(2, 0)
    change = read(given, memory_of(keys, values), reading)[1]
    torch.testing.assert_close(change[0, :, -1], expected, atol=1e-5, rtol=1e-5)


def test_of_keys_that_float32_can_not_tell_apart_the_nearest_are_found():
    heads, g = some_heads(1, 3, B=1), torch.Generator().manual_seed(0)
    far = torch.randn(2, 20000, 8, generator=g)
    keys = heads.plain_k[0, :, -1:] + far / far.norm(dim=-1, keepdim=True)  # all at the distance 1
    values = torch.randn(2, 20000, 8, generator=g)
    mean = Reading((0,), (), 5, 2, 1e6, 0.0, 0.0, 0.0, 'each')  # of the values found
    change = read(heads, memory_of(keys, values), mean)[1]
    distances = (keys.double() - heads.plain_k[0, :, -1:].double()).square().sum(-1)
    for head in range(4):
        nearest = distances[head // 2].topk(5, largest=False).indices
        expected = values[head // 2, nearest].mean(0) - heads.v[0, head // 2, -1]
        torch.testing.assert_close(change[0, head, -1], expected, atol=1e-5, rtol=1e-5)
