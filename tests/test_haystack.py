"""
Pass keys in a haystack: one text holds the key that is asked for, and what is read of a library is its texts.

$ python -m pytest tests/test_haystack.py
"""
import dataclasses
import re

import numpy as np
import pytest
import torch
from test_many_texts import task
from test_rotary import tiny_family

from core.stored import live_texts
from lab import many_texts
from lab.answers import remembered
from lab.facts import sentences
from lab.haystack import DEPTHS, with_pass_keys
from lab.made_up import stories
from lab.text_figures import haystack
from memory import PersistentMemory


def test_each_key_stands_in_one_text_at_its_depth_and_is_all_that_this_is_asked_for():
    told, plain = with_pass_keys(stories('prove', 3, 14), 10, 3), stories('prove', 3, 14)
    for n, (story, before) in enumerate(zip(told[:10], plain)):
        (question,), key = story.questions, story.questions[0].answers[0]
        assert re.fullmatch(r'\d{5}', key) and [key in other.text for other in told].index(True) == n
        assert sum(question.begins in other.text for other in told) == 1
        parts = sentences(story.text)
        at = parts.index(f'{question.begins} {key}.')
        assert at == round(n % DEPTHS / (DEPTHS - 1) * (len(parts) - 1))
        assert parts[:at] + parts[at + 1:] == sentences(before.text)
    assert [story.text for story in told[10:]] == [story.text for story in plain[10:]]
    assert not any(story.questions for story in told[10:])
    with pytest.raises(ValueError, match='num_facts is 400, but there are pass keys of 340 things'):
        with_pass_keys(stories('prove', 3, 400), 400, 3)


@pytest.fixture(scope='module')
def model(tokenizer):
    return tiny_family('llama', vocab_size=tokenizer.n_vocab, block_size=300)


@pytest.fixture(params=['float32', 'int8'])
def hay(model, tokenizer, tmp_path, request):
    """A library of six texts, of which one is forgotten."""
    memory = remembered(model, tokenizer, task('memory'), [f'Hay {n} is dry.' for n in range(6)])
    memory.dtype = request.param
    memory.save(tmp_path / 'hay')
    memory.forget([1])
    memory.save(tmp_path / 'hay')
    return str(tmp_path / 'hay')


def test_a_haystack_is_the_texts_of_a_library_which_stays_as_it_is(model, tokenizer, hay, defaults):
    s = {**defaults, 'pass_keys': True, 'memory_file': hay, 'num_facts': 2, 'texts_together': 5}
    told = many_texts.library_of_settings(s)
    assert told.texts[2:] == tuple(f'Hay {n} is dry.' for n in (0, 2, 3, 4, 5))
    asked = dataclasses.replace(task('memory', size=5), library=told, hay=hay)
    (numbers, questions), = many_texts.memories_of(told, 5)
    memory, numbers = many_texts.memory_of(model, tokenizer, asked, numbers)
    assert [entry['text'] for entry in memory.texts] == [told.texts[n] for n in numbers]
    whole = remembered(model, tokenizer, asked, [told.texts[n] for n in numbers])
    torch.testing.assert_close(memory.held.part('index', 1), whole.held.part('index', 1), atol=0.03, rtol=0)
    assert memory.held.tokens.equal(whole.held.tokens)
    assert many_texts.library_of_settings(s).texts == told.texts  # nothing of it was forgotten for good
    samples = many_texts.measure(model, tokenizer, asked)['samples']
    assert samples == many_texts.measure(model, tokenizer, dataclasses.replace(asked, hay=''))['samples']
    with pytest.raises(ValueError, match='texts_together is 8, but with .*hay there are 7: give no more'):
        many_texts.library_of_settings({**s, 'texts_together': 8})


def test_of_a_library_that_holds_all_texts_none_runs_again(model, tokenizer, hay, monkeypatch):
    texts = tuple(f'Hay {n} is dry.' for n in (5, 0, 3))
    told = dataclasses.replace(task('memory').library, texts=texts, right=np.array([1, 0, 2, 1]))
    asked = dataclasses.replace(task('memory', size=3), library=told, hay=hay)
    expected = many_texts.measure(model, tokenizer, dataclasses.replace(asked, hay=''))['samples']
    monkeypatch.setattr(many_texts, 'remembered', None)
    memory, numbers = many_texts.memory_of(model, tokenizer, asked, [0, 1, 2])
    assert [entry['text'] for entry in memory.texts] == [texts[n] for n in numbers]
    assert many_texts.measure(model, tokenizer, asked)['samples'] == expected
    assert len(live_texts(hay)) == 5


def test_a_library_of_another_kind_is_refused(model, tokenizer, tmp_path):
    other = PersistentMemory.from_texts(model, ['Hay 0 is dry.'], tokenizer, (), ((0, 1),), 'tokens',
                                        prefix='Other:\n')
    other.save(tmp_path / 'other')
    with pytest.raises(ValueError, match='keeps tokens of texts behind .* tokens, here tokens are wanted'):
        many_texts.memory_of(model, tokenizer, task('memory', hay=str(tmp_path / 'other')), [0])


def test_the_figure_has_a_column_a_size_and_a_row_a_depth():
    sizes, found = (100, 10), ([0] * 10, [1, 1, 1, 1, 0, 0, 1, 1, 1, 0])
    points = [{'settings': {'texts_together': size}} for size in sizes]
    rows = [{'condition': 'memory', 'stored_tokens': 70 * size, 'samples': {'found': one, 'right': one}}
            for size, one in zip(sizes, found)]
    fig = haystack(points, rows, 'library')
    shown = np.array(fig.axes[0].images[0].get_array())
    np.testing.assert_array_equal(shown, [[0.5, 0], [1, 0], [1, 0], [1, 0], [0, 0]])
    assert [tick.get_text() for tick in fig.axes[0].get_xticklabels()] == ['700\nin 10', '7,000\nin 100']
