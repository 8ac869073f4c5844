"""
Answers to questions with a text: those of a batch are those of each alone, and none is written twice.

$ python -m pytest tests/test_answers.py
"""
import copy
import dataclasses

import pytest
import torch
from test_many_texts import READING, TOLD, task
from test_rotary import tiny_family

from core.chat import ChatFormat
from lab import answers as answering
from lab import many_texts
from lab.answers import answers, of_one_length, remembered, turn_of
from lab.conditions import reading_memory
from lab.many_texts import Asking
from reader import Reading

TEXTS = [story.text for story in TOLD]


@pytest.fixture(scope='module')
def model(tokenizer):
    return tiny_family('qwen3', vocab_size=tokenizer.n_vocab, block_size=100, tied=False)  # one that varies


@pytest.fixture(autouse=True)
def forgotten():
    answering.known.cache_clear()


def alone(model, tokenizer, asked, n, texts):
    """As a user would have it: a memory of these texts alone, all of which are recalled."""
    turn = turn_of(tokenizer, asked.library.questions[n], asked.asking)
    reading = dataclasses.replace(READING, recall_texts=len(texts))
    with reading_memory(model, remembered(model, tokenizer, asked, texts), reading):
        row = model.generate(torch.tensor([turn.ids]), asked.new_tokens, top_k=1,
                             question=(turn.start, turn.end))[0, len(turn.ids):]
    return tokenizer.decode(row.tolist())


def test_texts_that_are_read_side_by_side_answer_as_each_alone(model, tokenizer):
    asked = task('right', new_tokens=6)
    sets = [(text,) for text in TEXTS] + [tuple(TEXTS[:2]), tuple(TEXTS[1:])]
    pairs = [(n, texts) for n in range(3) for texts in sets]  # every question of every text
    found = answers(model, tokenizer, asked, pairs)
    assert found == [alone(model, tokenizer, asked, n, texts) for n, texts in pairs]
    assert len(set(found)) > 10  # else any text could stand for another


@pytest.mark.parametrize('positions', ['far', 'own'])
def test_a_text_is_read_where_the_reading_sees_it(model, tokenizer, positions):
    asked = task('right', new_tokens=6)
    pairs = [(n, (TEXTS[0],)) for n in range(3)]
    before = answers(model, tokenizer, asked, pairs)
    there = task('right', new_tokens=6, reading=Reading(**{**READING.__dict__, 'positions': positions}))
    assert answers(model, tokenizer, there, pairs) != before


CHAT = ChatFormat("{% for m in messages %}{{ m.role }}:\n{{ m.content }}\n{% endfor %}assistant:")


@pytest.mark.parametrize('chat', [False, True])
def test_a_text_that_is_read_is_answered_as_in_the_prompt(model, tokenizer, chat):
    asking, tokenizer = Asking(chat=chat), copy.copy(tokenizer)
    tokenizer.chat = CHAT
    pairs = [(n, (text,)) for n in range(3) for text in TEXTS]
    read, prompted = (answers(model, tokenizer, task(how, new_tokens=6, asking=asking), pairs)
                      for how in ('right', 'prompt'))
    assert read == prompted and len(set(read)) > 10


@pytest.mark.parametrize('most', [4, 10])  # the context of 100 holds no ten of the texts with an answer
def test_prompts_of_any_length_are_continued_as_each_alone(model, tokenizer, most):
    asked = task('prompt', new_tokens=6)
    pairs = [(n, (' '.join(3 * TEXTS)[cut:27 * many], 'Dry.')) for n in range(3) for many in (1, 2, most)
             for cut in (0, 5, 9)]
    prompts = [turn_of(tokenizer, asked.library.questions[n], asked.asking, '\n'.join(texts)).ids
               for n, texts in pairs]
    assert len({len(ids) for ids in prompts}) > 6 and (max(map(len, prompts)) > 94) == (most == 10)
    alone = [model.generate(torch.tensor([ids]), 6, top_k=1)[0, len(ids):].tolist() for ids in prompts]
    assert answers(model, tokenizer, asked, pairs) == [tokenizer.decode(row) for row in alone]


def test_prompts_of_one_length_are_written_together_and_none_beside_itself():
    prompts = [(1, 2), (3,), (4, 5), (1, 2), (6,), (7, 8), (1, 2)]
    assert of_one_length(prompts) == [[0, 2, 5], [1, 4], [3], [6]]
    assert max(map(len, of_one_length([(n,) for n in range(40)]))) == answering.ROWS_TOGETHER


def test_what_was_asked_of_a_text_is_not_written_again_by_whatever_it_was_chosen(
        model, tokenizer, monkeypatch):
    asked, seen, before = [], [], answering.written

    def counted(tokenizer, asked, prompts, go_on):
        seen.append(len(prompts))
        return before(tokenizer, asked, prompts, go_on)
    monkeypatch.setattr(answering, 'written', counted)
    for condition in ('prompt', 'bm25', 'right', 'memory', 'plain'):
        seen.clear()
        found = many_texts.measure(model, tokenizer, task(condition, size=5))['samples'].get('found', [])
        asked.append((condition, sum(seen), found[:4]))
    # of five questions one comes twice; a wrong text's answer is not known yet
    assert [count for _, count, _ in asked] == [4, 0, 4, 4 - sum(asked[3][2]), 4]
    assert sum(asked[1][2]) == 4 > sum(asked[3][2])


def test_a_condition_that_abstains_answers_as_the_question_alone(model, tokenizer):
    far = Reading(**{**READING.__dict__, 'recall_threshold': 1e5})
    abstains = many_texts.measure(model, tokenizer, task('memory', size=5, reading=far))
    assert abstains['texts'] == many_texts.measure(model, tokenizer, task('plain'))['texts']


def test_methods_1_to_4_read_all_texts_of_a_memory_at_once(model, tokenizer):
    reading = Reading(layers=(0, 2), method=4, k=50, softmax_scale=1.0)
    asked = task('memory', size=5, reading=reading, new_tokens=6)
    found = many_texts.measure(model, tokenizer, asked)
    memory = remembered(model, tokenizer, asked, TEXTS, 'values')
    assert found['numbers']['stored_tokens'] == len(memory) and found['samples'].keys() == {'right'}
    with reading_memory(model, memory, reading):
        for question, text in zip(asked.library.questions, found['texts']):
            ids = turn_of(tokenizer, question, asked.asking).ids
            row = model.generate(torch.tensor([ids]), 6, top_k=1)[0, len(ids):]
            assert tokenizer.decode(row.tolist()) == text
    assert found['texts'] != many_texts.measure(model, tokenizer, task('plain', new_tokens=6))['texts']
