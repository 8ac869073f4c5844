"""
Reading a memory: the write-up's golden numbers, the definition computed slowly, and the contracts.

$ python -m pytest tests/test_reading.py
"""
import json
import os

import pytest
import torch
from conftest import PROMPT, REMEMBERED, ROOT, slow_logits, slow_pick, tiny_model

from memory import PersistentMemory
from model import GPT, Cache
from reader import Reading, found_values

GOLDEN = os.path.join(ROOT, 'tests', 'golden')
with open(os.path.join(GOLDEN, 'golden.json')) as f:
    golden = json.load(f)

SETTINGS = {
    'method 1': dict(layers=(0, 1, 2), method=1, k=3,
                     memory_fraction=1.0, bookkeeping_fraction=0.1, softmax_scale=1.0),
    'method 2': dict(layers=(1,), method=2, k=1, memory_fraction=0.0, bookkeeping_fraction=0.05),
    'method 2, some heads': dict(layers=(0, 2), heads=(1,), method=2, k=4,
                                 memory_fraction=2.0, bookkeeping_fraction=0.0),
    'method 3': dict(layers=(0, 1), method=3, k=5, memory_fraction=5.0, bookkeeping_fraction=0.9,
                     softmax_scale=0.01, residual_fraction=0.33),
    'method 3, k above the stored': dict(layers=(1, 2), method=3, k=500,
                                         memory_fraction=1.0, bookkeeping_fraction=0.2, softmax_scale=1.0),
    'method 4': dict(layers=(0, 1, 2), method=4, k=4, softmax_scale=1.5),
    'method 4, some heads': dict(layers=(1,), heads=(0,), method=4, k=500, softmax_scale=1.0),
}
READINGS = [(name, select) for name in SETTINGS for select in ('last', 'each')]


@pytest.fixture(scope='module', params=['as it comes', 'frozen'])
def golden_model(request):
    model = GPT.from_pretrained(os.path.join(GOLDEN, 'toy_gpt2'))
    if request.param == 'frozen':
        model.freeze()
    return model


@pytest.fixture(params=['as it comes', 'frozen'])
def model(request):
    model = tiny_model()
    if request.param == 'frozen':
        model.freeze()
    return model


def attach_golden(model, case):
    layers = tuple(case['layers'])
    memory = PersistentMemory.from_tokens(model, golden['memory_ids'], layers)
    names = 'k', 'method', 'memory_fraction', 'bookkeeping_fraction', 'softmax_scale', 'residual_fraction'
    model.attach_memory(memory, layers, **{name: case[name] for name in names})


@pytest.mark.parametrize('case', [golden['plain'], *golden['cases']], ids=lambda case: case['name'])
def test_logits_and_texts_are_those_of_the_original_code(golden_model, case):
    golden_model.detach_memory()
    if 'layers' in case:
        attach_golden(golden_model, case)
    for prompt, expected in zip(golden['prompts'], case['logits'], strict=True):
        logits, _ = golden_model(torch.tensor([prompt]))
        torch.testing.assert_close(logits[0, 0], torch.tensor(expected), atol=1e-4, rtol=0)
    texts = [text['ids'] for text in case['generated']]
    prompt = next(p for p in golden['prompts'] if texts[0][:len(p)] == p)
    seeds = [text['seed'] for text in case['generated']]
    idx = torch.tensor([prompt] * len(seeds))
    assert golden_model.generate(idx, len(texts[0]) - len(prompt), 0.8, 200, seeds).tolist() == texts
    golden_model.detach_memory()


@pytest.mark.parametrize(('name', 'select'), READINGS)
def test_logits_equal_the_definition(model, memory, name, select):
    model.attach_memory(memory, **SETTINGS[name], select=select)
    logits, _ = model(torch.tensor([PROMPT]), targets=torch.tensor([PROMPT]))
    expected = slow_logits(model, memory, PROMPT, **SETTINGS[name], select=select)
    torch.testing.assert_close(logits[0], expected, atol=1e-4, rtol=1e-4)
    plain = slow_logits(model, memory, PROMPT, layers=())
    assert (expected - plain).abs().max() > 1e-3, 'the memory must matter, or the comparison proves nothing'


@pytest.mark.parametrize(('name', 'select'), READINGS)
def test_a_token_at_a_time_equals_all_at_once(model, memory, name, select):
    model.attach_memory(memory, **SETTINGS[name], select=select)
    for steps in ([4, 1, 1, 1, 1, 1, 1, 1, 1], [1, 5, 6], [11, 1]):
        cache, end = Cache(len(PROMPT)), 0
        for n in steps:
            end += n
            logits, _ = model(torch.tensor([PROMPT[end - n:end]]), cache=cache)
            alone, _ = model(torch.tensor([PROMPT[:end]]))
            torch.testing.assert_close(logits, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(('name', 'select'), READINGS)
def test_a_row_of_a_batch_equals_that_row_alone(model, memory, name, select):
    model.attach_memory(memory, **SETTINGS[name], select=select)
    rows = [PROMPT, PROMPT[::-1], [7] * len(PROMPT)]
    together, _ = model(torch.tensor(rows))
    for row, logits in zip(rows, together, strict=True):
        torch.testing.assert_close(logits, model(torch.tensor([row]))[0][0], atol=1e-4, rtol=1e-4)
    seeds = [1, 2, 3]
    texts = model.generate(torch.tensor(rows), 15, 0.9, 20, seeds)
    for row, seed, text in zip(rows, seeds, texts, strict=True):
        assert model.generate(torch.tensor([row]), 15, 0.9, 20, [seed])[0].tolist() == text.tolist()


@pytest.mark.parametrize(('name', 'select'), READINGS)
def test_generate_equals_the_definition_past_the_end_of_the_context(model, memory, name, select):
    model.attach_memory(memory, **SETTINGS[name], select=select)
    text = model.generate(torch.tensor([PROMPT]), 28, top_k=1)[0].tolist()  # 40 tokens, the context is 32
    for end in (13, 20, 32, 33, 39):
        window = text[:end][-32:]
        expected = slow_logits(model, memory, window, **SETTINGS[name], select=select)[-1]
        assert expected[text[end]] > expected.max() - 1e-3


@pytest.mark.parametrize(('name', 'select'), READINGS)
def test_large_searches_read_the_same(model, memory, name, select, monkeypatch):
    model.attach_memory(memory, **SETTINGS[name], select=select)
    expected = all_logits(model)
    monkeypatch.setattr('core.index.STACKED_FROM_PAIRS', 0)
    monkeypatch.setattr('core.index.SCORES_A_BLOCK', {'cpu': 50})
    monkeypatch.setattr('core.index.NUMBERS_A_RANKING', 50)
    torch.testing.assert_close(all_logits(model), expected, atol=1e-4, rtol=1e-4)


def test_a_missing_neighbour_weighs_nothing(memory):
    given = torch.randn(3, 3, 8, generator=torch.Generator().manual_seed(0))
    heads, stored = torch.tensor([0, 0, 1]), memory.layer(0)
    reading = Reading((0,), k=2, method=1, softmax_scale=1.0)

    class WithMissing:
        table = stored.keys.table

        def __len__(self):
            return 4

        def search(self, heads, queries, k):
            found = stored.keys.search(heads, queries, k)
            return tuple(torch.nn.functional.pad(x, (0, 2), value=-1) for x in found)

    missing = stored._replace(keys=WithMissing())
    with_missing = found_values(missing, heads, *given, reading)
    without = found_values(stored, heads, *given, reading)
    for one, other in zip(with_missing, without, strict=True):
        torch.testing.assert_close(one if one.shape == other.shape else one[:, :2], other)


def test_tokens_of_the_past_never_change_under_each(model, memory):
    model.attach_memory(memory, **SETTINGS['method 3'], select='each')
    short, _ = model(torch.tensor([PROMPT[:8]]), targets=torch.tensor([PROMPT[:8]]))
    whole, _ = model(torch.tensor([PROMPT]), targets=torch.tensor([PROMPT]))
    torch.testing.assert_close(short[0], whole[0, :8], atol=1e-4, rtol=1e-4)


def all_logits(model):
    idx = torch.tensor([PROMPT, PROMPT[::-1]])
    return model(idx, targets=idx)[0]


def test_a_detached_memory_leaves_the_plain_model_bit_for_bit(model, memory):
    before = all_logits(model)
    model.attach_memory(memory, **SETTINGS['method 1'])
    assert not torch.equal(all_logits(model), before)
    model.detach_memory()
    assert torch.equal(all_logits(model), before)


def test_an_empty_memory_changes_not_a_bit(model):
    before = all_logits(model)
    empty = PersistentMemory.from_tokens(model, REMEMBERED[:1], layers=(0, 1))
    assert len(empty) == 0
    for method in (1, 2, 3, 4):
        strong = dict(memory_fraction=5.0, bookkeeping_fraction=0.0)
        model.attach_memory(empty, layers=(0, 1), method=method, **strong)
        assert torch.equal(all_logits(model), before)


def test_plain_reads_nothing_and_comes_back(model, memory):
    before = all_logits(model)
    model.attach_memory(memory, **SETTINGS['method 1'])
    attached = all_logits(model)
    with model.plain():
        assert torch.equal(all_logits(model), before)
    assert torch.equal(all_logits(model), attached)


def test_a_memory_is_written_by_the_plain_model_even_while_another_is_read(model, memory):
    model.attach_memory(memory, **SETTINGS['method 1'])
    again = PersistentMemory.from_tokens(model, REMEMBERED, layers=(0, 1, 2))
    for layer in range(3):
        assert torch.equal(again.keys[layer], memory.keys[layer])
        assert torch.equal(again.values[layer], memory.values[layer])


def picks(model, row, settings):
    """Token-heads that `row` of PROMPT picks in layer 0, by the definition."""
    block = model.transformer.h[0]
    x = model.transformer.wte.weight[PROMPT] + model.transformer.wpe.weight[:len(PROMPT)]
    q, k, _ = block.attn.c_attn(block.ln_1(x)).view(len(PROMPT), 3, 2, 8).unbind(1)  # each (T, nh, hs)
    S = [torch.softmax(k[:row + 1, h] @ q[row, h] / 8 ** 0.5, dim=0).tolist() for h in range(2)]
    return {(h, j) for h in range(2) for j in range(row + 1)
            if slow_pick(S[h][j], j, row + 1, settings['memory_fraction'], settings['bookkeeping_fraction'])}


def test_only_picked_token_heads_are_searched_and_each_once(model, memory):
    settings = dict(memory_fraction=1.0, bookkeeping_fraction=0.1)
    by_row = [picks(model, row, settings) for row in range(len(PROMPT))]
    model.attach_memory(memory, layers=(0,), **settings, select='last')
    model(torch.tensor([PROMPT]))
    assert model.searches == {0: len(by_row[-1])}
    model.attach_memory(memory, layers=(0,), **settings, select='each')
    model(torch.tensor([PROMPT]))
    assert model.searches == {0: len(set.union(*by_row))}
    for select in ('last', 'each'):  # over the steps of a generation too: layer 0's keys never change
        model.attach_memory(memory, layers=(0,), **settings, select=select)
        cache, total = Cache(len(PROMPT)), 0
        for token in PROMPT:
            model(torch.tensor([[token]]), cache=cache)
            total += model.searches[0]
        assert total == len(set.union(*by_row))


@pytest.mark.parametrize('select', ['last', 'each'])
def test_a_batch_searches_as_often_as_its_rows_alone(model, memory, select):
    model.attach_memory(memory, layers=(0, 1, 2), method=3, memory_fraction=1.0, bookkeeping_fraction=0.2,
                        select=select)
    rows, alone = [PROMPT, PROMPT[::-1], [7, 9] * 6], dict.fromkeys(range(3), 0)
    together = model.generate(torch.tensor(rows), 12, top_k=1)
    counts = model.searches
    for row, text in zip(rows, together, strict=True):
        assert model.generate(torch.tensor([row]), 12, top_k=1)[0].tolist() == text.tolist()
        alone = {layer: alone[layer] + n for layer, n in model.searches.items()}
    assert counts == alone


@pytest.mark.parametrize(('name', 'select'), READINGS)
def test_rows_that_share_their_prompt_go_their_own_ways_and_count_as_alone(model, memory, name, select):
    model.attach_memory(memory, **SETTINGS[name], select=select)
    seeds, idx = [5, 6, 7], torch.tensor([PROMPT])
    texts = model.generate(idx.expand(3, -1), 25, 0.9, 20, seeds)  # past the end of the context
    searches, picks, alone = model.searches, model.picks, []
    for seed, text in zip(seeds, texts, strict=True):
        assert model.generate(idx, 25, 0.9, 20, [seed])[0].tolist() == text.tolist()
        alone.append((model.searches, model.picks))
    for layer in model.readers:
        assert searches[layer] == sum(searched[layer] for searched, _ in alone)
        assert picks[layer] == sum(picked[layer] for _, picked in alone)


@pytest.mark.parametrize('name', SETTINGS)
def test_the_rows_of_a_long_prompt_are_read_in_blocks_with_the_same_result(model, memory, name, monkeypatch):
    model.attach_memory(memory, **SETTINGS[name], select='each')
    expected, searches = all_logits(model), model.searches
    monkeypatch.setattr('reader.ROWS_A_BLOCK', 5)
    torch.testing.assert_close(all_logits(model), expected, atol=1e-5, rtol=1e-5)
    assert model.searches == searches


def test_a_new_token_costs_at_most_a_search_per_head_whatever_the_context(model, memory):
    model.attach_memory(memory, layers=(0, 1), method=3, memory_fraction=5.0, bookkeeping_fraction=0.0,
                        select='each')
    model.generate(torch.tensor([PROMPT]), 15, top_k=5, seeds=[1])
    seen = len(PROMPT) + 14  # the last token drawn is never fed back
    assert all(0 < count <= 2 * seen for count in model.searches.values())
    model.attach_memory(memory, layers=(0, 1), method=4, k=3)
    model.generate(torch.tensor([PROMPT]), 15, top_k=5, seeds=[1])
    assert model.searches == {0: 2 * seen, 1: 2 * seen}


def test_memory_fraction_0_picks_no_ordinary_token_and_bookkeeping_fraction_1_not_the_first(model, memory):
    before = all_logits(model)
    model.attach_memory(memory, layers=(0, 1, 2), memory_fraction=0.0, bookkeeping_fraction=1.0)
    torch.testing.assert_close(all_logits(model), before, atol=1e-5, rtol=1e-5)
    assert model.searches == {0: 0, 1: 0, 2: 0}
    model.attach_memory(memory, layers=(0,), memory_fraction=0.0, bookkeeping_fraction=0.0)
    model(torch.tensor([PROMPT]))
    assert model.searches == {0: 2}  # each head, the bookkeeping token


def test_a_cache_filled_under_another_memory_is_refused(model, memory):
    cache = Cache(len(PROMPT))
    model(torch.tensor([PROMPT[:5]]), cache=cache)
    model.attach_memory(memory, layers=(0,))
    with pytest.raises(ValueError, match='begin a new one'):
        model(torch.tensor([PROMPT[5:]]), cache=cache)


def test_a_scale_of_0_averages_what_is_found(model, memory):
    settings = dict(layers=(0, 1), k=500, memory_fraction=5.0, bookkeeping_fraction=0.0, softmax_scale=0.0)
    for method in (2, 3, 4):
        model.attach_memory(memory, **settings, method=method)
        expected = slow_logits(model, memory, PROMPT, **settings, method=method)
        newest = model(torch.tensor([PROMPT]))[0][0, 0]
        torch.testing.assert_close(newest, expected[-1], atol=1e-4, rtol=1e-4)


def traced(model, ids):
    cache = Cache(len(ids), trace=True)
    model(torch.tensor([ids]), cache=cache)
    return cache.trace


def test_a_trace_lists_each_look_up_with_its_neighbours(model, memory):
    model.attach_memory(memory, layers=(0,), k=3, memory_fraction=0.0, bookkeeping_fraction=0.0,
                        softmax_scale=1.0)
    trace = traced(model, PROMPT)
    assert [(r['layer'], r['h'], r['j']) for r in trace] == [(0, 0, 0), (0, 1, 0)]
    key = model.heads_of(torch.tensor([PROMPT]), (0,))[0][1][0, 1, 0]
    distances = ((memory.keys[0][1] - key) ** 2).sum(-1)
    assert trace[1]['ids'] == distances.argsort()[:3].tolist()
    assert trace[1]['distances'] == pytest.approx(distances.sort().values[:3].tolist(), rel=1e-4)
    assert sum(trace[1]['ranks']) == pytest.approx(1)


def test_a_trace_of_method_4_names_the_row_that_attended(model, memory):
    model.attach_memory(memory, layers=(0,), k=3, method=4, softmax_scale=1.5)
    block, n = model.transformer.h[0], len(PROMPT)
    x = block.ln_1(model.transformer.wte.weight[PROMPT] + model.transformer.wpe.weight[:n])
    q, k, _ = (part.view(n, 2, 8) for part in block.attn.c_attn(x).split(16, dim=-1))
    cache = Cache(n, trace=True)
    for first, end in ((0, 7), (7, n)):  # the second part stands behind what is cached
        model(torch.tensor([PROMPT[first:end]]), cache=cache)
    assert sorted((r['h'], r['j']) for r in cache.trace) == [(h, j) for h in range(2) for j in range(n)]
    for r in cache.trace:
        h, j = r['h'], r['j']
        beside = 1.5 * memory.keys[0][h] @ q[j, h]
        best = beside.topk(3)
        assert r['ids'] == best.indices.tolist()
        weights = torch.cat((best.values, k[:j + 1, h] @ q[j, h])).div(8 ** 0.5).softmax(0)[:3]
        assert r['ranks'] == pytest.approx(weights.tolist(), abs=1e-4)
        assert r['attention'] == pytest.approx(weights.sum().item(), abs=1e-4)


@pytest.mark.parametrize(('wrong', 'message'), [
    (dict(layers=(3,)), 'layer 3 does not exist: the model\'s layers are 0 to 2'),
    (dict(layers=(-1,)), 'layer -1 does not exist'),
    (dict(layers=(0, 0)), 'named twice'),
    (dict(layers=()), 'layers'),
    (dict(heads=(2,)), 'head 2 does not exist: the model\'s heads are 0 to 1'),
    (dict(k=0), 'k is 0'),
    (dict(k=1.5), 'k is 1.5'),
    (dict(method=6), 'method is 6, expected one of 1, 2, 3, 4, 5'),
    (dict(select='all'), "select is 'all', expected one of 'last', 'each'"),
    (dict(memory_fraction=-1.0), 'memory_fraction is -1.0'),
    (dict(bookkeeping_fraction=1.1), 'bookkeeping_fraction is 1.1, expected a number from 0 to 1'),
    (dict(softmax_scale=float('nan')), 'softmax_scale is nan'),
    (dict(softmax_scale=float('inf')), 'softmax_scale is inf'),
    (dict(residual_fraction=2.0), 'residual_fraction is 2.0, expected a number from 0 to 1'),
])
def test_what_does_not_fit_is_refused_by_name_and_value_and_changes_nothing(model, memory, wrong, message):
    model.attach_memory(memory, **SETTINGS['method 1'])
    before = all_logits(model)
    with pytest.raises(ValueError, match='.*') as error:
        model.attach_memory(memory, **{'layers': (0,), **wrong})
    assert message in str(error.value)
    assert torch.equal(all_logits(model), before)


def test_a_layer_that_the_memory_does_not_hold_is_refused(model):
    memory = PersistentMemory.from_tokens(model, REMEMBERED, layers=(1,))
    with pytest.raises(ValueError, match=r'the memory holds layers \(1,\)'):
        model.attach_memory(memory, layers=(0, 1))


def test_a_memory_of_another_model_is_refused(memory):
    with pytest.raises(ValueError, match="written by 'tiny' with n_head 2, the model is 'tiny' with 4"):
        tiny_model(n_head=4).attach_memory(memory, layers=(0,))
    with pytest.raises(ValueError, match='fingerprint'):
        tiny_model(seed=1).attach_memory(memory, layers=(0,))


@pytest.mark.parametrize('settings', [
    dict(method=4, softmax_scale=1.0),
    dict(method=2, bookkeeping_fraction=0.0, softmax_scale=0.01),
])
def test_bfloat16_reads_a_memory_written_in_float32(settings):
    model = tiny_model(sharp=6.0)
    memory = PersistentMemory.from_tokens(model, REMEMBERED, layers=(0,))
    plain = all_logits(model)
    model.attach_memory(memory, layers=(0,), **settings)
    exact = all_logits(model)
    model.detach_memory()
    model.bfloat16()
    model.attach_memory(memory, layers=(0,), **settings)
    error = (all_logits(model).float() - exact).abs().mean()
    assert error < 0.4 * (exact - plain).abs().mean(), 'rounding must be far below the effect of the memory'


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
@pytest.mark.parametrize(('name', 'select'), READINGS)
def test_a_gpu_reads_as_the_cpu_does(name, select):
    model = tiny_model()
    memory = PersistentMemory.from_tokens(model, REMEMBERED, layers=(0, 1, 2))
    model.attach_memory(memory, **SETTINGS[name], select=select)
    expected = all_logits(model)
    model.cuda()
    idx = torch.tensor([PROMPT, PROMPT[::-1]], device='cuda')
    torch.testing.assert_close(model(idx, targets=idx)[0].cpu(), expected, atol=1e-3, rtol=1e-3)
    assert model.generate(idx, 5, top_k=1).shape == (2, len(PROMPT) + 5)


def test_positions_of_a_rotary_model_are_refused_where_they_are_learned(model, memory):
    with pytest.raises(ValueError, match="positions is 'insert', but the model's are learned"):
        model.attach_memory(memory, layers=(0,), method=4, positions='insert')
