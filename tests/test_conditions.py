"""
Conditions: what reaches the model under each, computed anew by the model's plain interface.

$ python -m pytest tests/test_conditions.py
"""
import contextlib
import math
import os

import pytest
import torch
from conftest import PROMPT, ROOT, slow_pick, tiny_model
from lab_settings import PRAISE

from lab import conditions, measures, runs
from load import load_model, tokenizer_of_folder
from memory import PersistentMemory

START = '\nCats are'
TEXTS = {'memory': 'Cats are good friends.', 'unrelated': 'Trains leave at noon.',
         'neutral': 'Cats have four legs.', 'opposite': 'Cats are bad friends.'}
HELD_OUT = ['\nDogs run fast in the park.', '\nThe sea is cold, and the sky is grey today.']
READING = {'k': 3, 'method': 1, 'memory_fraction': 1.0, 'bookkeeping_fraction': 0.0, 'softmax_scale': 1.0,
           'residual_fraction': 0.1}
ANSWER = ' good'


@pytest.fixture(scope='module')
def loaded():
    """A model in which attention, and so a memory, decides what is written, and a tokenizer."""
    tokenizer = tokenizer_of_folder(os.path.join(ROOT, 'assets', 'tinyworld'))
    model = tiny_model(vocab_size=tokenizer.n_vocab, block_size=128, sharp=8.0)
    with torch.no_grad():
        for block in model.transformer.h:
            block.attn.c_proj.weight.mul_(50)
    return model, tokenizer


@pytest.fixture
def settings(defaults):
    """Of which memory_select, 'last', is another than the one that damage is measured with."""
    reading = {'memory_layers': (0, 2), 'memory_k': 3, 'memory_method': 1, 'memory_select': 'last'}
    reading |= {name: value for name, value in READING.items() if name not in ('k', 'method')}
    return {**defaults, **reading, **{f'{how}_text': text for how, text in TEXTS.items()}, 'start': START,
            'held_out_text': '\n\n'.join(HELD_OUT), 'max_new_tokens': 6, 'num_seeds': 3, 'num_held_out': 2,
            'steering_layer': 1, 'steering_scale': 9.0}


def prompt_by_hand(how):
    return f"\n{TEXTS['memory']}{START}" if how == 'prompt' else START


@contextlib.contextmanager
def by_hand(loaded, how, select='last', memory=None):
    """The model as a condition wants it; or with this memory in the place of the condition's."""
    model, tokenizer = loaded
    handle = None
    if how in TEXTS:
        ids = tokenizer.encode('\n' + TEXTS[how])
        memory = memory or PersistentMemory.from_tokens(model, ids, layers=(0, 2))
        model.attach_memory(memory, (0, 2), select=select, **READING)
    if how == 'steering':
        to, away = (mean_after_layer_1(loaded, TEXTS[how]) for how in ('memory', 'opposite'))
        vector = 9.0 * (to - away)
        handle = model.transformer.h[1].register_forward_hook(lambda block, inputs, x: x + vector)
    yield
    model.detach_memory()
    if handle:
        handle.remove()


def mean_after_layer_1(loaded, text):
    model, tokenizer = loaded
    ids = tokenizer.encode('\n' + text)
    with torch.no_grad():
        x = model.transformer.wte.weight[ids] + model.transformer.wpe.weight[:len(ids)]
        for block in model.transformer.h[:2]:
            x = block(x[None])[0]
    return x[1:].mean(0)


def texts_by_hand(loaded, how, seeds, memory=None):
    """Each seed's text alone, and the model's counts: (searches, picks) of all layers."""
    model, tokenizer = loaded
    idx, texts, searches, picks = torch.tensor([tokenizer.encode(prompt_by_hand(how))]), [], 0, 0
    with by_hand(loaded, how, memory=memory):
        for seed in seeds:
            y = model.generate(idx, 6, 0.8, 200, [seed])
            texts.append(tokenizer.decode(y[0, idx.size(1):].tolist()))
            searches, picks = searches + sum(model.searches.values()), picks + sum(model.picks.values())
    return texts, searches, picks


def nats_by_hand(loaded, how, select='each'):
    model, tokenizer = loaded
    before = tokenizer.encode(f"\n{TEXTS['memory']}") if how == 'prompt' else []
    found = []
    with by_hand(loaded, how, select), torch.no_grad():
        for document in HELD_OUT:
            ids = before + tokenizer.encode(document)
            logits, _ = model(torch.tensor([ids[:-1]]), targets=torch.tensor([ids[1:]]))
            of_tokens = -logits[0].log_softmax(-1)[range(len(ids) - 1), ids[1:]]
            found.append(of_tokens[len(before):].sum().item())
    return found


@pytest.mark.parametrize('how', list(conditions.CONDITIONS))
def test_sentiment_is_measured_on_what_the_model_writes_under_its_condition(loaded, settings, how):
    record = measures.sentiment(*loaded, {**settings, 'condition': how})
    seeds = measures.point_seeds(settings)
    texts, searches, picks = texts_by_hand(loaded, how, seeds)
    assert record['texts'] == texts
    work, steps = record['work'], 3 * 6  # seeds and tokens
    assert sum(work['searches_per_step'].values()) == pytest.approx(searches / steps)
    assert sum(work['picks_per_step'].values()) == pytest.approx(picks / steps)
    assert (searches > 0) == (how in TEXTS)
    assert searches == 0 or searches != picks
    assert record['held_out']['nats'] == pytest.approx(nats_by_hand(loaded, how), rel=1e-4)


def test_the_conditions_can_be_told_apart(loaded, settings):
    seeds = measures.point_seeds(settings)
    assert len({tuple(texts_by_hand(loaded, how, seeds)[0]) for how in conditions.CONDITIONS}) == 7
    for how in TEXTS:
        pairs = zip(nats_by_hand(loaded, how, 'each'), nats_by_hand(loaded, how, 'last'))
        assert max(abs(each - last) / last for each, last in pairs) > 1e-3
    assert len({round(nats_by_hand(loaded, how)[0], 4) for how in conditions.CONDITIONS}) == 7


@pytest.mark.parametrize('how', list(conditions.CONDITIONS))
def test_the_probability_of_an_answer_is_that_under_its_condition(loaded, settings, how):
    model, tokenizer = loaded
    s = {**settings, 'measure': 'recall', 'answer': ANSWER, 'condition': how}
    ids, expected = tokenizer.encode(prompt_by_hand(how)), 1.0
    with by_hand(loaded, how):
        for token in tokenizer.encode(ANSWER):
            expected *= model(torch.tensor([ids]))[0][0, 0].softmax(-1)[token].item()
            ids = [*ids, token]
    record = measures.recall(model, tokenizer, s)
    assert record['numbers']['probability'] == pytest.approx(expected, rel=1e-3)
    assert record['held_out']['nats'] == pytest.approx(nats_by_hand(loaded, how), rel=1e-4)


def test_a_memory_file_is_read_in_the_texts_place(loaded, settings, tmp_path):
    model, tokenizer = loaded
    path = str(tmp_path / 'two.safetensors')
    memory = PersistentMemory.from_text(model, TEXTS['opposite'], tokenizer, (0, 1, 2), bookkeeping_tokens=0)
    memory.add_text(model, TEXTS['unrelated'], tokenizer)
    memory.save(path)
    s = {**settings, 'memory_text': '', 'memory_file': path, 'condition': 'memory'}
    texts, _, _ = texts_by_hand(loaded, 'memory', measures.point_seeds(s), memory)
    assert measures.sentiment(model, tokenizer, s)['texts'] == texts
    as_a_text = {**s, 'memory_text': f"{TEXTS['opposite']}\n{TEXTS['unrelated']}"}
    assert measures.sentiment(model, tokenizer, as_a_text)['texts'] != texts


def test_a_remembered_text_is_no_name_of_a_file(loaded, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'text.txt').write_text('FILE:nowhere')
    s = {**settings, 'memory_text': 'FILE:text.txt', 'condition': 'memory'}
    assert len(measures.sentiment(*loaded, s)['texts']) == 3


def test_a_steering_vector_is_a_difference_of_hidden_states_and_is_added_after_its_layer(folder):
    from transformers import GPT2LMHeadModel
    model, tokenizer = load_model(folder)
    peer = GPT2LMHeadModel.from_pretrained(folder)
    condition = conditions.Condition('steering', '', 'Cats are good.', 'Cats are bad.', steering_layer=1,
                                     steering_scale=3.0)
    vector = conditions.steering_vector(model, tokenizer, condition)
    prompts = [torch.tensor([tokenizer.encode('\n' + text)]) for text in ('Cats are good.', 'Cats are bad.')]
    means = [peer(idx, output_hidden_states=True).hidden_states[2][0, 1:].mean(0) for idx in prompts]
    torch.testing.assert_close(vector, 3 * (means[0] - means[1]), atol=1e-4, rtol=1e-4)

    idx = torch.tensor([tokenizer.encode('\nDogs')])
    handle = peer.transformer.h[1].register_forward_hook(
        lambda block, inputs, out: (out[0] + vector, *out[1:]) if isinstance(out, tuple) else out + vector)
    with torch.no_grad(), conditions.steered(model, 1, vector):
        torch.testing.assert_close(model(idx)[0][:, -1], peer(idx).logits[:, -1], atol=1e-3, rtol=1e-3)
    handle.remove()
    torch.testing.assert_close(model(idx)[0][:, -1], peer(idx).logits[:, -1], atol=1e-4, rtol=1e-4)


def test_a_substitute_takes_the_answers_place_at_the_places_named():
    text = 'Rome is old. I love Rome. Rome!'
    assert measures.substituted(text, 'Rome', 'Oslo', ()) == 'Oslo is old. I love Oslo. Oslo!'
    assert measures.substituted(text, 'Rome', 'Oslo', (1,)) == 'Rome is old. I love Oslo. Rome!'
    assert measures.substituted(text, 'Rome', '', (1,)) == text
    for answer, at in (('Paris', ()), ('Rome', (3,)), ('Rome', (-1,))):
        with pytest.raises(ValueError, match='correct answer or substitute_at'):
            measures.substituted(text, answer, 'Oslo', at)


# ---- look-ups ----

def test_the_model_counts_what_each_row_picks(model, memory):
    settings = dict(memory_fraction=2.0, bookkeeping_fraction=0.1, select='each')
    model.attach_memory(memory, (0,), method=3, softmax_scale=1.0, **settings)
    model(torch.tensor([PROMPT]))
    found = model.picks
    model.detach_memory()
    block, n = model.transformer.h[0], len(PROMPT)
    x = block.ln_1(model.transformer.wte.weight[PROMPT] + model.transformer.wpe.weight[:n])
    q, k, _ = (y.view(n, 2, 8).transpose(0, 1) for y in block.attn.c_attn(x).split(16, dim=-1))
    expected = 0
    for h in range(2):
        for i in range(n):
            s = torch.softmax(q[h, i] @ k[h, :i + 1].T / math.sqrt(8), dim=0)
            expected += sum(slow_pick(s[j].item(), j, i + 1, 2.0, 0.1) for j in range(i + 1))
    assert found == {0: expected}
    assert expected > 0


@pytest.mark.parametrize(('new_tokens', 'select'), [(8, 'last'), (8, 'each'), (150, 'last')])
def test_look_ups_are_those_of_the_step_after_the_text(loaded, defaults, new_tokens, select):
    model, tokenizer = loaded
    s = {**defaults, 'measure': 'look_ups', 'start': START, 'memory_text': PRAISE, 'memory_layers': (0, 2),
         'memory_fraction': 2.0, 'memory_method': 1, 'softmax_scale': 1.0, 'max_new_tokens': new_tokens,
         'bookkeeping_fraction': 0.0, 'memory_k': 3, 'memory_select': select}
    found = runs.rounded(measures.look_ups(model, tokenizer, s))
    tokens = min(128, len(tokenizer.encode(START)) + new_tokens - 1)  # the model's context is of 128
    assert found['numbers']['context_tokens'] == tokens
    for layer in (0, 2):
        many = [r for r in found['look_ups'] if r['layer'] == layer]
        assert found['shares'][layer] == pytest.approx(len(many) / (2 * tokens), rel=1e-5)
    assert all(len(r['ids']) == len(r['tokens']) == 3 for r in found['look_ups'])
    assert new_tokens > 128 or found['look_ups'][0]['token'] == '\n'
