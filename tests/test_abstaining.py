"""
Method 5 that recalls nothing: by what evidence, and that it is then the plain model.

$ python -m pytest tests/test_abstaining.py
"""
import random

import pytest
import torch
from test_recall import HEADER, HEADS, PROMPT, TEXTS, attach, library, slow_votes
from test_rotary import FAMILIES, tiny_family

from core.origin import describe
from memory import PersistentMemory


@pytest.fixture(params=FAMILIES)
def model(request):
    return tiny_family(request.param)


@pytest.fixture
def llama():
    return tiny_family('llama')


def slow_evidence(model, memory, question, floor_of=40, bounded=True):
    """Of the best text: how much likelier it makes the question, and its lead in votes, of few texts at most
    as much, per token."""
    votes = slow_votes(model, memory, HEADER + question, floor_of)
    best, next = sorted([0, *votes])[:-3:-1]

    def log_p(text):
        whole = torch.tensor([HEADER + text + question])
        with model.plain():
            log_p = model(whole, targets=whole)[0].log_softmax(-1)[0]
            first = model(torch.tensor([HEADER]))[0].log_softmax(-1)[0, 0, question[0]]  # sees no text
        at = len(HEADER) + len(text)
        return (first + sum(log_p[at + i, token] for i, token in enumerate(question[1:]))).item()
    text = TEXTS[votes.index(max(votes))]
    lead, gain = 2 * (best - next) / len(question) / len(HEADS), (log_p(text) - log_p([])) / len(question)
    return gain + (min(lead, gain) if bounded and len(votes) < floor_of else lead)


def questions(model, memory, count):
    """Random ones with evidence above 0: [(evidence, question)]."""
    found, draw = [], random.Random(0)
    while len(found) < count:
        question = [draw.randrange(48) for _ in range(5)]
        evidence = slow_evidence(model, memory, question)
        found += [(evidence, question)] * (evidence > 0.01)
    return sorted(found)


@pytest.mark.parametrize('count', (1, 2, 5))
def test_the_evidence_is_the_lead_in_votes_and_what_the_text_does_for_the_question(model, count):
    memory = library(model, TEXTS[:count])
    (evidence, question), = questions(model, memory, 1)
    for threshold, recalls in ((evidence - 1e-3, True), (evidence + 1e-3, False)):
        attach(model, memory, recall_threshold=threshold)
        model.generate(torch.tensor([HEADER + question]), 1, top_k=1)
        assert bool(model.recalled[0][0][1]) == recalls


def test_of_few_texts_the_floor_is_the_best_of_a_longer_headers_tokens(model, monkeypatch):
    monkeypatch.setattr('test_recall.HEADER', [3, 17, 35, 8])
    memory, prompt = library(model, TEXTS[:2]), [3, 17, 35, 8, 30, 8, 41, 5, 22]
    attach(model, memory)
    found, _ = model.recaller.votes(model, torch.tensor([prompt]), memory.held)
    assert found[0].tolist() == pytest.approx(slow_votes(model, memory, prompt, 40), abs=1e-4)


@pytest.mark.parametrize(('count', 'floor_of'), [(1, 2), (4, 5), (5, 5)])
def test_of_fewer_texts_than_can_get_votes_the_lead_is_above_the_header_and_counts_no_more_than_the_gain(
        llama, count, floor_of):
    memory, question = library(llama, TEXTS[:count]), [30, 8, 41, 5, 22]
    attach(llama, memory, recall_votes=floor_of)
    evidence = evidence_of(llama, HEADER + question)
    assert evidence == pytest.approx(slow_evidence(llama, memory, question, floor_of), abs=1e-4)
    unbounded = slow_evidence(llama, memory, question, floor_of, bounded=False)
    assert (abs(evidence - unbounded) < 1e-4) == (count == floor_of)


def evidence_of(model, prompt, question=None):
    idx, recaller = torch.tensor([prompt]), model.recaller
    with torch.inference_mode():
        votes, voters = recaller.votes(model, idx, recaller.memory.held, question)
        span = recaller.voters(idx, question)
        return recaller.best(model, idx, recaller.memory.held, span, votes[0], voters)[2]()


def test_what_stands_before_the_question_makes_no_text_gain_less(llama):
    memory, question = library(llama, TEXTS[:1]), [30, 8, 41, 5, 22]
    attach(llama, memory, recall_votes=2)
    before = [*question, 7, 9]  # the same, asked before
    prompt = HEADER + before + question
    votes, voters = llama.recaller.votes(llama, torch.tensor([prompt]), memory.held, (9, 14))
    alone, _ = llama.recaller.votes(llama, torch.tensor([HEADER + question]), memory.held)
    gain = slow_evidence(llama, memory, question, bounded=False) - 2 * alone.item() / voters
    expected = gain + min(2 * votes.item() / voters, gain)
    assert evidence_of(llama, prompt, (9, 14)) == pytest.approx(expected, abs=1e-4)


def test_behind_another_header_the_gain_is_read_behind_all_that_stands_before_the_question(llama):
    memory, question = library(llama), [30, 8, 41, 5, 22]
    attach(llama, memory)
    prompt, (first, end) = [9, 9, 7, *question], (3, 8)
    with torch.inference_mode():
        recaller, idx = llama.recaller, torch.tensor([prompt])
        votes, voters = recaller.votes(llama, idx, memory.held, (first, end))
        numbers, _ = recaller.ahead(votes[0], memory.held.live)
        lead = sorted(votes[0].tolist())[-1] - sorted(votes[0].tolist())[-2]
        after, without = recaller.likelihoods(llama, idx, (first, end), memory.held, [numbers[:1], ()])
    expected = (after - without) / 5 + min(2 * lead / voters, (after - without) / 5)
    assert evidence_of(llama, prompt, (first, end)) == pytest.approx(expected, abs=1e-4)


def test_the_lead_is_that_of_the_text_recalled_also_where_another_has_more_votes(llama):
    memory, close, draw = library(llama), torch.tensor([1.0, 1.01, 1.02, 1.0, 0.5]), random.Random(1)
    attach(llama, memory, recall_votes=2, recall_candidates=4)
    recaller, recalled = llama.recaller, set()
    while len(recalled) < 3:
        idx, span = torch.tensor([HEADER + [draw.randrange(48) for _ in range(5)]]), (2, 7)
        with torch.inference_mode():
            (number,), _, evidence = recaller.best(llama, idx, memory.held, span, close, 10)
            after, none = recaller.likelihoods(llama, idx, span, memory.held, [(number,), ()])
            lead = {0: -0.02, 1: -0.01, 2: 0.01, 3: -0.02}[number]
            assert evidence() == pytest.approx(2 * lead / 10 + (after - none) / 5, abs=1e-4)
        recalled.add(number)


def test_a_model_that_abstains_is_bit_for_bit_the_plain_one(model):
    memory, idx = library(model), torch.tensor([PROMPT, PROMPT[::-1]])
    plain, text = model(idx)[0], model.generate(idx, 5, seeds=[1, 2])
    attach(model, memory, recall_threshold=1e5)
    assert torch.equal(model(idx)[0], plain)
    assert torch.equal(model.generate(idx, 5, seeds=[1, 2]), text)
    assert model.recalled == [[(0, (), ())], [(0, (), ())]]
    attach(model, PersistentMemory(describe(model), (0, 1, 2), 2, '', HEADS))
    assert torch.equal(model(idx)[0], plain)


def test_a_row_that_abstains_is_plain_bit_for_bit_beside_one_that_recalls(llama):
    memory = library(llama)
    (low, abstains), (high, recalls) = questions(llama, memory, 2)
    idx = torch.tensor([HEADER + question for question in (abstains, recalls, abstains)])
    plain = llama.generate(idx, 5, seeds=[1, 2, 3])
    attach(llama, memory, recall_threshold=(low + high) / 2)
    y = llama.generate(idx, 5, seeds=[1, 2, 3])
    assert [bool(row[0][1]) for row in llama.recalled] == [False, True, False]
    assert torch.equal(y[[0, 2]], plain[[0, 2]])
