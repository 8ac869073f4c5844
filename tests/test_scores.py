"""
Scores and damage against their definitions.

$ python -m pytest tests/test_scores.py
"""
import math
import re

import pytest
import torch
from conftest import PROMPT, tiny_model

from lab import damage, scores
from load import load_model
from memory import PersistentMemory

OPINION = 'Cats are good.'


@pytest.mark.parametrize('tokens', [3, 27, 31, 32, 40])  # the model's context is of 32
@pytest.mark.parametrize('select', ['last', 'each', 'none'])
def test_the_probability_of_an_answer_is_the_product_of_its_steps_in_the_context_that_fits(select, tokens):
    model = tiny_model()
    if select != 'none':
        memory = PersistentMemory.from_tokens(model, [3, 9, 41, 5, 22, 17], layers=(0, 1))
        model.attach_memory(memory, (0, 1), method=3, memory_fraction=2.0, bookkeeping_fraction=0.1,
                            softmax_scale=1.0, select=select)
    prompt, answer, expected = (PROMPT * 4)[:tokens], [44, 9, 12], 0.0
    for n, token in enumerate(answer):
        seen = torch.tensor([(prompt + answer[:n])[-32:]])
        expected += model(seen)[0][0, 0].log_softmax(-1)[token].item()
    found = scores.answer_probability(model, torch.tensor([prompt]), answer)
    assert math.log(found) == pytest.approx(expected, abs=1e-3)


def test_an_answer_is_right_only_as_whole_words():
    for text in (' 4831.', ' 4831 people', ' 4831'):
        assert scores.is_right(text, ' 4831')
    for text in (' 48312', ' 483', '4831.'):
        assert not scores.is_right(text, ' 4831')


def test_losses_are_those_of_each_document_alone(model):
    documents = [PROMPT, PROMPT[:5], [*PROMPT, 4, 4, 9, 30], PROMPT * 4]  # the last is too long
    for skip in (1, 3):
        for document, (nats, tokens) in zip(documents, scores.losses(model, documents, skip)):
            seen = document[-33:]
            logits, _ = model(torch.tensor([seen[:-1]]), targets=torch.tensor([seen[1:]]))
            log_probs = logits.log_softmax(-1)[0]
            each = [-log_probs[i - 1, seen[i]].item() for i in range(1, len(seen))]
            first = max(0, skip - 1 - (len(document) - len(seen)))
            assert nats == pytest.approx(sum(each[first:]), rel=1e-4)
            assert tokens == len(each[first:])


def test_losses_of_many_documents_are_those_of_few(model, monkeypatch):
    documents = [PROMPT[:n] for n in range(2, 12)]
    at_once = scores.losses(model, documents)
    monkeypatch.setattr(scores, 'LOGITS_AT_ONCE', 3 * 48 * 32)  # three documents
    for (nats, tokens), (together, as_many) in zip(scores.losses(model, documents), at_once, strict=True):
        assert nats == pytest.approx(together, rel=1e-4)
        assert tokens == as_many


def test_distinct_counts_different_n_grams():
    assert scores.distinct([1, 2, 1, 2, 1], 1) == 2 / 5
    assert scores.distinct([1, 2, 1, 2, 1], 2) == 2 / 4
    assert scores.distinct([1, 2, 3], 4) == 1.0


def test_the_score_of_a_sentence_does_not_grow_with_the_length_of_the_text():
    found = scores.sentiment_scores(['Cats are nice.', 'Cats are nice. ' * 8])
    assert found['compound'][1] > found['compound'][0] + 0.3
    assert found['sentence_compound'][1] == pytest.approx(found['sentence_compound'][0])


def test_the_second_judge_has_a_lexicon_of_its_own_and_a_mean_that_length_does_not_drive():
    texts = ['Cats are nice.', 'Cats are nice. ' * 8, 'Cats are horrible.', 'A cat has four legs.',
             'The dark cellar']
    found = scores.sentiment_scores(texts)
    assert found['polarity'] == pytest.approx([0.6, 0.6, -1.0, 0.0, -0.15])  # TextBlob's own numbers
    assert found['compound'][4] == 0.0, 'VADER knows no word of it'


def test_texts_are_judged_by_as_many_first_words():
    kind, words = 'This is nice.', scores.JUDGED_WORDS
    dull = 'It is so. ' * 6 + 'It was. '
    assert len(dull.split()) == words
    found = scores.sentiment_scores([kind, dull + kind, kind + ' ' + dull + kind])
    assert found['first_words_compound'] == [found['compound'][0], 0.0, found['compound'][0]]
    assert found['compound'][1] > 0
    assert scores.first_words(' a  b\nc d', 3) == ' a  b\nc '


# ---- damage ----

def test_held_out_documents_are_on_other_subjects():
    for text, absent in ((OPINION, r'\bcats\b'), ('Taldun is a city in Norland.', r'\b(taldun|norland)\b')):
        documents = damage.held_out_texts(damage.HeldOut(30, 1337), text)
        assert len(documents) == 30
        assert not any(re.search(absent, document.lower()) for document in documents)


def test_held_out_documents_of_a_text_are_its_first_paragraphs():
    text = ' One.\ntwo\n\n\n\n Three. \n\nFour.\n'
    assert damage.held_out_texts(damage.HeldOut(2, 1337, text), OPINION) == ['\nOne.\ntwo', '\nThree.']


def test_the_text_in_the_prompt_costs_nothing_of_the_held_out_documents(folder):
    model, tokenizer = load_model(folder)
    plain = damage.damage(model, tokenizer, damage.HeldOut(4, 1337), '', OPINION)
    behind = damage.damage(model, tokenizer, damage.HeldOut(4, 1337), f'\n{OPINION}', OPINION)
    assert plain['tokens'] == behind['tokens']
    assert plain['nats'] != behind['nats']


def test_damage_leaves_a_memory_read_as_it_was_though_it_is_interrupted(folder, monkeypatch):
    model, tokenizer = load_model(folder)
    idx = torch.tensor([tokenizer.encode('\nDogs and cats are friends of people')])
    memory = PersistentMemory.from_text(model, OPINION, tokenizer, (0, 1))

    def logits(select=''):
        if select:
            model.attach_memory(memory, (0, 1), method=3, memory_fraction=2.0, softmax_scale=1.0,
                                select=select)
        return model(idx, targets=idx)[0]  # of all rows: the last row alone can be the same

    def interrupted(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(damage, 'losses', interrupted)
    each, last = logits('each'), logits('last')
    with pytest.raises(KeyboardInterrupt):
        damage.damage(model, tokenizer, damage.HeldOut(1, 1337), '', OPINION)
    assert torch.equal(logits(), last)
    assert not torch.equal(each, last)
