"""
Facts: what is asked, what is remembered, how far it stands, and that each condition is what it says.

$ python -m pytest tests/test_facts.py
"""
import dataclasses
import math
import os
import re

import pytest
import torch
from conftest import ROOT

from lab import facts, measures
from lab.damage import HeldOut
from lab.writing import Drawing
from load import load_model, tokenizer_of_folder
from memory import PersistentMemory
from reader import Reading

QUESTIONS = facts.Questions('memory', 1337, 3, Drawing((1337, 4)), HeldOut(1, 1337),
                            reading=Reading(layers=(0, 2), k=64, method=4, softmax_scale=1.0))


def questions(**changes):
    return dataclasses.replace(QUESTIONS, **changes)


def named_by(question):
    """The names in a question; its first word, capitalised as every sentence's is, need not be one."""
    return re.findall(r'[A-Z]\w+|\w+-largest \w+|\d+', question.split(' ', 1)[1])


def test_the_wrong_answer_of_a_fact_answers_the_same_question_elsewhere():
    for fact in facts.unseen_facts(7, 40):
        assert fact.other != fact.answer
        assert fact.answer.strip().isdigit() == fact.other.strip().isdigit()
        assert fact.answer in fact.paragraph
        assert fact.answer.strip() in facts.answering_sentence(fact)


def test_the_sentence_alone_is_the_one_that_answers():
    paragraph = '\nFishermen founded Londia in 1267. The river Notun runs through Londia. Londia is old.'
    fact = facts.Fact(paragraph, '\nThe city on the river Notun is', ' Londia', ' Brana')
    assert facts.answering_sentence(fact) == 'The river Notun runs through Londia.'


def test_only_one_paragraph_of_a_memory_says_what_a_question_names():
    (asked, texts), = facts.groups_of_texts(questions(num_facts=60, texts_together=300))
    assert (len(asked), len(texts)) == (60, 300)
    for n, fact in enumerate(facts.unseen_facts(1337, 60)):
        named = named_by(fact.question)
        holding = [i for i, text in enumerate(texts) if all(name in text for name in named)]
        assert n in holding
        first_word = fact.question.split(' ', 1)[0].strip()
        assert len(holding) == 1 or not named or first_word in fact.paragraph, (fact, holding)
    assert [len(texts) for _, texts in facts.groups_of_texts(questions(texts_together=2))] == [2, 2]


def test_filler_fits_the_distance():
    tokenizer = tokenizer_of_folder(os.path.join(ROOT, 'assets', 'tinyworld'))
    for distance in (0, 30, 90):
        text = facts.filler(tokenizer, questions(distance=distance), 1)
        ids = tokenizer.encode(text) if text else []
        assert distance - 30 < len(ids) <= distance


@pytest.mark.parametrize('sentence_only', [False, True])
def test_only_the_memory_of_the_text_holds_the_answer(sentence_only):
    for n, fact in enumerate(QUESTIONS.facts):
        def remembered(condition, n=n, fact=fact):
            asked = questions(condition=condition, sentence_only=sentence_only)
            return facts.remembered_texts(asked, n, [fact.paragraph])

        assert remembered('plain') == remembered('prompt') == []
        (memory,), (opposite,), (unrelated,) = map(remembered, ('memory', 'opposite', 'unrelated'))
        assert fact.answer in memory
        assert fact.answer not in opposite
        assert fact.other in opposite
        assert not all(name in unrelated for name in named_by(fact.question))
        assert all((text.count('. ') == 0) == sentence_only for text in (memory, opposite, unrelated))


@pytest.mark.parametrize('condition', ['plain', 'prompt', 'memory', 'unrelated', 'opposite'])
def test_the_probability_of_an_answer_is_that_under_its_condition(folder, condition):
    model, tokenizer = load_model(folder)
    fact = QUESTIONS.facts[0]
    others = {'memory': fact.paragraph, 'unrelated': facts.distractor(1337, 0),
              'opposite': fact.paragraph.replace(fact.answer.strip(), fact.other.strip())}
    found = facts.recall_of_facts(model, tokenizer, questions(num_facts=1, condition=condition))
    answer, log_prob, stored = tokenizer.encode(fact.answer), 0.0, 0
    ids = tokenizer.encode((fact.paragraph if condition == 'prompt' else '') + fact.question)
    if condition in others:
        remembered = tokenizer.encode('\n' + others[condition].strip())
        memory = PersistentMemory.from_tokens(model, remembered, (0, 2))
        model.attach_memory(memory, (0, 2), k=64, method=4, softmax_scale=1.0)
        stored = len(memory)
    for token in answer:
        log_prob += model(torch.tensor([ids]))[0][0, 0].log_softmax(-1)[token].item()
        ids = [*ids, token]
    assert math.log(found['samples']['probability'][0]) == pytest.approx(log_prob, rel=1e-4)
    assert found['numbers']['stored_tokens'] == stored


def test_a_facts_seeds_are_its_own_and_stay_in_a_generators_range():
    assert facts.seeds_of_fact((5, 2**32 - 1), 3) == (8, 2)


def test_settings_reach_the_questions_by_their_names(defaults, monkeypatch):
    seen = []
    monkeypatch.setattr(facts, 'recall_of_facts', lambda model, tokenizer, asked: seen.append(asked))
    s = {**defaults, 'condition': 'memory', 'seed': 5, 'num_facts': 7, 'texts_together': 3,
         'sentence_only': True, 'distance': 11, 'bookkeeping_tokens': 2, 'memory_layers': (4,),
         'seeds': (6, 8), 'num_held_out': 9}
    measures.recall_of_facts(None, None, s)
    asked, = seen
    assert (asked.condition, asked.seed, asked.num_facts, asked.texts_together) == ('memory', 5, 7, 3)
    assert (asked.sentence_only, asked.distance, asked.bookkeeping_tokens) == (True, 11, 2)
    assert (asked.reading.layers, asked.drawing.seeds, asked.held_out) == ((4,), (6, 8), HeldOut(9, 5))
