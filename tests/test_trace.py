"""
What page/trace.py says of a written text: each weight by brute force, and each probability by another way.

$ python -m pytest tests/test_trace.py
"""
import math

import pytest
import torch
from conftest import PROMPT, REMEMBERED, tiny_model
from test_neighbours import PREFIX, Letters
from test_neighbours import library as windows
from test_recall import HEADER, HEADS, QUESTION, library, slow_turn_all
from test_rotary import tiny_family

from core.cache import Cache
from memory import PersistentMemory
from page.again import again, as_attached
from page.trace import HIDDEN_MOST, hidden_of, pieces, sentences_of, trace_of
from reader import attention_weights

LAYERS = (0, 1, 2)
TEXTS = [9, 30, 4, 17, 8, 41, 22, 11, 33], [5, 26, 7, 19, 46], [44, 2, 13, 37, 28, 6, 10]
PICKS = {'memory_fraction': 3.0, 'bookkeeping_fraction': 0.2, 'softmax_scale': 1.0, 'residual_fraction': 0.3}
# a model's family, and how its memory of two texts is read
CASES = [('gpt2', {'method': 1, 'select': 'last', **PICKS}),
         ('gpt2', {'method': 2, 'select': 'each', **PICKS}),
         ('gpt2', {'method': 3, 'heads': (1,), **PICKS}), ('llama', {'method': 3, 'select': 'each', **PICKS}),
         ('llama', {'method': 2, 'select': 'last', **PICKS}), ('gpt2', {'method': 4, 'softmax_scale': 1.0}),
         *(('llama', {'method': 4, 'k': k, 'softmax_scale': 1.0, 'positions': where, 'distance': 20})
           for k, where in ((4, 'far'), (50, 'insert'), (50, 'own'))),
         *(('qwen3', {'method': 5, 'index_heads': HEADS, 'positions': where, 'distance': 20,
                      'recall_texts': 2}) for where in ('insert', 'far', 'own')),
         ('gpt2', {'method': 5, 'index_heads': ((0, 1),), 'layers': (1, 2)})]


class Words:
    """A tokenizer in which every token is a word, and a few end a sentence."""

    def decode(self, ids):
        return ''.join(f'W{i}' + ('. ' if i % 2 == 0 else ' ') for i in ids)


def written(family, settings, n=4, **how):
    """-> a model that reads two texts, its row of ids, and (T, question, recalled) of it."""
    model = tiny_model(n_head=4) if family == 'gpt2' else tiny_family(family)
    settings = {'layers': LAYERS, 'k': 3, **settings}
    if settings['method'] == 5:
        memory = library(model, TEXTS, index_heads=settings['index_heads'])
    else:
        memory = PersistentMemory.from_tokens(model, REMEMBERED, layers=LAYERS)
        memory.add(model, REMEMBERED[:1] + REMEMBERED[5:10])
    model.attach_memory(memory, **settings)
    prompt = torch.tensor([HEADER + QUESTION if settings['method'] == 5 else PROMPT])
    question = (2, prompt.size(1)) if settings['method'] == 5 else None
    row = model.generate(prompt, n, top_k=1, question=question, **how)
    return model, row, (prompt.size(1), question, model.recalled[0] if model.recalled else ())


def heads_put_out(model, layer, ids, question):
    """What each head of a layer puts out for the newest of ids, in writing: (nh, hs)."""
    seen, c_proj = [], model.transformer.h[layer].attn.c_proj
    handle = c_proj.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0, -1].clone()))
    model.generate(ids, 1, top_k=1, question=question)
    handle.remove()
    return seen[-1].view(model.config.n_head, -1)


def weights_by_force(model, memory, layer, ids, question):
    """A head's output is linear in the stored values: how far it moves when one of them does, (nh, M)."""
    held, before = memory.held, heads_put_out(model, layer, ids, question)
    values, columns = held.part('values', layer), []
    for rows in torch.arange(values.size(1)).split(values.size(2)):  # as many at once as a head has numbers
        places = range(len(rows))
        values[:, rows, places] += 1
        held._layers.clear()
        columns.append((heads_put_out(model, layer, ids, question) - before)[:, places])
        values[:, rows, places] -= 1
    held._layers.clear()
    return torch.cat(columns, dim=1)


@pytest.mark.parametrize('family,settings', CASES)
def test_each_weight_is_how_far_a_head_moves_with_the_stored_value(family, settings):
    model, row, told = written(family, settings)
    way = model.recaller or next(iter(model.readers.values()))
    trace, memory = trace_of(model, Words(), row, *told), way.memory
    T, question, _ = told
    for step in (0, 3):
        token, ids = trace['written'][step], row[:, :T + step]
        force = torch.stack([weights_by_force(model, memory, layer, ids, question)
                             for layer in trace['layers']])  # (L, nh, M)
        assert torch.allclose(torch.tensor(token['map']), force.sum(-1), atol=2e-4)
        rows, found = force.mean((0, 1)), torch.zeros(force.size(-1))
        for draw in token['draws']:
            first = trace['texts'][[text['number'] for text in trace['texts']].index(draw['text'])]['first']
            found[[first + at for at in draw['rows']]] = torch.tensor(draw['weights'])
        assert torch.allclose(found, rows, atol=2e-4)
        assert token['share'] == pytest.approx(rows.sum().item(), abs=2e-4)
        assert rows.sum() > 0.005


@pytest.mark.parametrize('family,settings', [case for case in CASES if case[1]['method'] < 4])
def test_what_was_picked_and_found_is_that_of_the_equations(family, settings):
    model, row, told = written(family, settings)
    trace, reader = trace_of(model, Words(), row, *told), model.readers[0]
    token = trace['written'][0]
    heads = model.heads_of(row[:, :told[0]], (0,))[0]
    q, k, _ = (part[0] for part in heads)
    t, group = told[0], len(q) // len(k)
    thresholds = [one['threshold'] for one in trace['written']]
    assert thresholds == pytest.approx([1 / (3 * (t + n)) for n in range(4)], rel=1e-3)
    if model.rotary is None:  # Eq. 1 of what is not turned
        expected = {(h, j): weight for h in reader.heads
                    for j, weight in enumerate(attention_weights(q[None], k[None])[0, h, -1].tolist())
                    if weight >= 1 / (3 * t) and (j > 0 or weight > 0.2)}
        found = {(trace['look_ups'][at]['head'], trace['look_ups'][at]['token']): attention
                 for at, attention in token['picks'] if trace['look_ups'][at]['layer'] == 0}
        assert found == pytest.approx(expected, rel=1e-3)
    for at, _ in token['picks']:
        one = trace['look_ups'][at]
        if one['layer'] == 0:
            keys, key = reader.memory.keys[0][one['head'] // group], k[one['head'] // group, one['token']]
            distances = (keys - key).square().sum(1)
            assert one['distances'] == pytest.approx(distances[one['rows']].tolist(), rel=1e-3)
            assert one['distances'] == pytest.approx(distances.sort().values[:3].tolist(), rel=1e-3)
            near = torch.cat((keys[one['rows']], key[None])) if settings['method'] != 2 else keys[one['rows']]
            scores = (near @ q[one['head'], one['token']] / math.sqrt(len(key))).softmax(0)
            assert one['shares'] == pytest.approx(scores[:3].tolist(), abs=1e-3)


@pytest.mark.parametrize('family,settings', CASES)
def test_the_probabilities_with_the_memory_and_without_are_those_of_writing(family, settings):
    model, row, (T, question, recalled) = written(family, settings)
    check = trace_of(model, Words(), row, T, question, recalled)['check']
    seen, lm_head = [], model.lm_head.forward
    model.lm_head.forward = lambda x: seen.append(lm_head(x)) or seen[-1]
    model.generate(row[:, :T], row.size(1) - T, top_k=1, question=question)
    model.lm_head.forward = lm_head
    log_p = torch.cat([logits.reshape(1, -1) for logits in seen[-4:]]).log_softmax(-1)
    assert check['memory'] == pytest.approx(log_p.gather(1, row[0, T:, None])[:, 0].tolist(), abs=2e-3)
    model.detach_memory()
    plain = model(row, targets=row)[0][0, T - 1:-1].log_softmax(-1)
    assert check['plain'] == pytest.approx(plain.gather(1, row[0, T:, None])[:, 0].tolist(), abs=2e-3)


def test_a_trace_changes_nothing_that_is_written_after_it():
    model, row, told = written('llama', {'method': 3, 'select': 'each', **PICKS})
    torch.manual_seed(5)
    before = model.generate(row[:, :12], 4)
    torch.manual_seed(5)
    trace_of(model, Words(), row, *told)
    assert torch.equal(model.generate(row[:, :12], 4), before)


def test_a_trace_of_no_memory_or_of_a_recall_that_is_not_told_is_refused():
    model, row, (T, *_) = written('llama', {'method': 5, 'index_heads': HEADS})
    with pytest.raises(ValueError, match="recalled is empty, which method 5 needs: give the row"):
        trace_of(model, Words(), row, T)
    model.detach_memory()
    with pytest.raises(ValueError, match='no memory is attached, so that nothing can be traced'):
        trace_of(model, Words(), row, T)


def test_without_rows_is_a_prompt_whose_text_lacks_them():
    """By method 5, inserted: by hand a plain model whose cache has all but the hidden rows in front."""
    model, row, (T, question, recalled) = written('llama', {'method': 5, 'index_heads': HEADS})
    [(_, (number,), _)] = recalled
    trace, text = trace_of(model, Words(), row, T, question, recalled), TEXTS[number]
    assert trace['check']['hidden']
    h, n = len(HEADER), len(text)
    header, both = (model.heads_of(torch.tensor([ids]), range(3)) for ids in (HEADER, HEADER + text))
    model.detach_memory()
    for (_, first, end), told in zip(trace['check']['hidden'], trace['check']['without']):
        cache = Cache(20)
        cache.readers, cache.offset = {}, h
        kept = [at for at in range(n) if not first <= at < end]
        for layer in range(3):
            (_, hk, hv), (_, k, v) = header[layer], both[layer]
            keys = torch.cat((slow_turn_all(hk[0], range(-n, h - n), model.config),
                              slow_turn_all(k[0, :, h:], range(h - n, h), model.config)[:, kept]), dim=1)
            values = torch.cat((hv[0], v[0, :, h:][:, kept]), dim=1)
            cache.front[layer, 'kv'] = torch.cat((keys, values))[None]
        log_p = model.lm_head(model.hidden(row[:, h:-1], cache))[0, T - h - 1:].log_softmax(-1)
        assert told == pytest.approx(log_p.gather(1, row[0, T:, None])[:, 0].tolist(), abs=2e-3)


def test_of_many_texts_those_are_hidden_that_drew_more_from_some_token_than_from_all():
    n = HIDDEN_MOST + 6
    texts = [{'number': at, 'tokens': ['a'], 'sentences': [(0, 1)]} for at in range(n)]
    # much from every token alike, and the less from one alone the higher its number
    weights = {at: torch.tensor([[0.5], [0.5 + 0.01 * max(0, n - at - 6)]]) for at in range(n)}
    assert hidden_of(texts, weights) == [(at, 0, 1) for at in range(HIDDEN_MOST)]


def test_hidden_rows_are_the_same_by_method_4_as_by_method_5():
    found = []
    for method in (4, 5):
        model = tiny_family('llama')
        memory = library(model, TEXTS[:1])
        model.attach_memory(memory, LAYERS, method=method, k=50, softmax_scale=1.0, positions='insert',
                            index_heads=HEADS)
        row = torch.tensor([HEADER + QUESTION + [7, 11, 40]])
        found.append(trace_of(model, Words(), row, 7, None, [(0, (0,), (1.0,))] * (method == 5)))
    four, five = found
    assert four['check']['hidden'] == five['check']['hidden']
    for name in ('memory', 'without'):
        assert torch.allclose(*(torch.tensor(one['check'][name]) for one in found), atol=2e-3)
    for a, b in zip(four['written'], five['written']):
        assert torch.allclose(torch.tensor(a['map']), torch.tensor(b['map']), atol=2e-4)


def test_without_a_text_is_a_memory_that_has_forgotten_it():
    model, row, (T, *_) = written('gpt2', {'method': 2, 'select': 'each', **PICKS})
    trace, memory = trace_of(model, Words(), row, T), model.readers[0].memory
    at = [tuple(span) for span in trace['check']['hidden']].index((0, 0, 13))
    memory.forget(0)
    model.attach_memory(memory, LAYERS, k=3, method=2, select='each', **PICKS)
    alone = trace_of(model, Words(), row, T)
    assert trace['check']['without'][at] == pytest.approx(alone['check']['memory'], abs=2e-3)
    assert [(text['number'], text['first']) for text in alone['texts']] == [(1, 0)]


@pytest.mark.parametrize('family,settings', [
    ('gpt2', {'method': 1, 'select': 'last', **PICKS}), ('llama', {'method': 3, 'select': 'each', **PICKS}),
    ('llama', {'method': 4, 'softmax_scale': 1.0}), ('llama', {'method': 4, 'positions': 'insert', 'k': 50}),
    ('qwen3', {'method': 5, 'positions': 'far'}), ('gpt2', {'method': 5})])
def test_the_one_sentence_of_the_one_text_is_hidden_too_and_leaves_the_plain_model(family, settings):
    model = tiny_model(n_head=4) if family == 'gpt2' else tiny_family(family)
    memory = library(model, [[9, 31, 5, 17, 41, 23]], index_heads=HEADS[:1])
    model.attach_memory(memory, LAYERS, **settings, **({'index_heads': HEADS[:1]} if settings['method'] == 5
                                                       else {}))
    row = torch.tensor([HEADER + QUESTION + [7, 11, 40]])
    recalled = [(0, (0,), (1.0,))] * (settings['method'] == 5)
    check = trace_of(model, Words(), row, 7, None, recalled)['check']
    assert check['hidden'] == [(0, 0, 6)]
    assert check['memory'] != pytest.approx(check['plain'], abs=1e-3)
    if settings.get('positions') != 'insert':  # where the header stands further back all the same
        assert check['without'] == [pytest.approx(check['plain'], abs=2e-3)]


def test_a_recall_is_told_with_the_best_votes_of_all_texts_at_each_step():
    model, *_ = written('llama', {'method': 5, 'index_heads': HEADS})
    memory = library(model, TEXTS)
    model.attach_memory(memory, method=5, index_heads=HEADS, recall_every=3)
    row = model.generate(torch.tensor([HEADER + QUESTION]), 7, top_k=1)
    recalled = model.recalled[0]
    trace = trace_of(model, Words(), row, 7, None, recalled)
    assert [(one['step'], tuple(one['recalled'])) for one in trace['recalls']] == [
        (step, numbers) for step, numbers, _ in recalled]
    assert [one['step'] for one in trace['recalls']] == [0, 3, 6]
    for one, (_, numbers, votes) in zip(trace['recalls'], recalled):
        told = [vote['votes'] for vote in one['votes']]
        assert (one['votes'][0]['text'], told[0]) == (numbers[0], pytest.approx(votes[0], rel=1e-3))
        assert told == sorted(told, reverse=True)
        assert one['voters'] == len(HEADS) * (len(QUESTION) + one['step'])


def test_what_is_abstained_from_draws_nothing_and_is_the_plain_model():
    model, *_ = written('llama', {'method': 5, 'index_heads': HEADS})
    model.attach_memory(library(model, TEXTS), method=5, index_heads=HEADS, recall_threshold=1000.0)
    row = model.generate(torch.tensor([HEADER + QUESTION]), 3, top_k=1)
    trace = trace_of(model, Words(), row, 7, None, model.recalled[0])
    assert trace['texts'] == []
    assert all(token['share'] == 0 and token['draws'] == [] for token in trace['written'])
    assert trace['check']['memory'] == trace['check']['plain']


@pytest.mark.parametrize('where', ('insert', 'far'))
def test_windows_that_are_read_as_one_are_traced_each_and_what_they_share_once(where):
    model = tiny_family('llama', block_size=96)
    memory = windows(model)
    model.attach_memory(memory, method=5, index_heads=HEADS, positions=where, recall_neighbours=1)
    row = model.generate(torch.tensor([Letters.encode(PREFIX) + QUESTION]), 3, top_k=1)
    T, [(_, (number,), _)] = row.size(1) - 3, model.recalled[0]
    trace = trace_of(model, Words(), row, T, None, model.recalled[0], 3)
    assert len(trace['texts']) > 1
    assert number in [text['number'] for text in trace['texts']]
    for token in trace['written']:
        assert sum(draw['share'] for draw in token['draws']) == pytest.approx(token['share'], abs=1e-3)
        for draw in token['draws']:
            is_later = draw['text'] - 1 in [text['number'] for text in trace['texts']]
            assert min(draw['rows']) >= (memory.texts[draw['text']]['overlap'] if is_later else 0)


@pytest.mark.parametrize('where', ('insert', 'far'))
def test_a_memory_of_tokens_alone_is_traced_as_one_that_keeps_values(where):
    found = []
    for keep in ('values', 'tokens'):
        model = tiny_family('llama')
        model.attach_memory(library(model, TEXTS, keep), method=5, index_heads=HEADS, positions=where)
        row = model.generate(torch.tensor([HEADER + QUESTION]), 3, top_k=1)
        found.append(trace_of(model, Words(), row, 7, None, model.recalled[0]))
    for one, other in zip(*(trace['written'] for trace in found)):
        assert torch.allclose(torch.tensor(one['map']), torch.tensor(other['map']), atol=2e-4)
    assert torch.allclose(*(torch.tensor(trace['check']['without']) for trace in found), atol=2e-3)


@pytest.mark.parametrize('settings', [CASES[1][1], CASES[5][1]])
def test_past_the_context_it_is_traced_as_it_was_written_cropped(settings):
    model, row, (T, *_) = written('gpt2', settings, n=25)
    assert row.size(1) > model.config.block_size
    passes = list(again(model, row, T, as_attached(model, Cache(model.config.block_size), {})))
    assert [step for step, *_ in passes][-3:] == [22, 23, 24]
    expected = model(row[:, -33:-1])[0][0, -1]
    assert torch.allclose(model.lm_head(passes[-1][-1])[0, -1], expected, atol=1e-3)
    trace = trace_of(model, Words(), row, T)
    context = ['' for _ in range(5)] + row[0, 5:-1].tolist()  # of the last token
    for at, _ in trace['written'][-1]['picks']:
        assert context[trace['look_ups'][at]['token']] != ''


@pytest.mark.parametrize('settings', [CASES[1][1], CASES[5][1]])
def test_a_context_that_lost_half_is_traced_as_it_was_written(settings):
    model, row, (T, *_) = written('gpt2', settings, n=25, drop_half=True)
    trace = trace_of(model, Words(), row, T, drop_half=True)
    expected = []
    for n in range(T, row.size(1)):  # of 32 tokens 16 leave at once
        logits = model(row[:, 16 * (n > 32):n])[0][0, -1]
        expected.append(logits.log_softmax(-1)[row[0, n]].item())
    assert trace['check']['memory'] == pytest.approx(expected, abs=1e-3)
    by_one = trace_of(model, Words(), row, T)['check']['memory']
    assert by_one != pytest.approx(expected, abs=1e-3)
    for at, _ in trace['written'][-1]['picks']:
        assert trace['look_ups'][at]['token'] >= 16


# ---- words ----

def test_pieces_add_up_to_the_text_and_a_character_goes_to_the_token_that_completes_it():
    class Bytes:
        def decode(self, ids):
            return bytes(ids).decode(errors='replace')

    text = 'Zoë — ok\ufffd'
    found = pieces(Bytes(), list(text.encode()))
    assert ''.join(found) == text
    assert found[:4] == ['Z', 'o', '', 'ë']


def test_sentences_cover_the_tokens_and_blank_space_begins_the_next():
    tokens = ['One', ' is', ' here', '.', '\n\n', 'Two', '.', ' Mr', '.', ' X', ' came', '!', '\n']
    assert sentences_of(tokens) == [(0, 4), (4, 7), (7, 13)]
    assert sentences_of(['no', ' end']) == [(0, 2)]
    assert sentences_of([]) == [(0, 0)]
