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


def slow_evidence(model, memory, question):
    """Of the best text: its lead in votes, and how much likelier it makes the question, per token."""
    votes = slow_votes(model, memory, HEADER + question, 40)
    best, next = sorted(votes)[:-3:-1] if len(votes) > 1 else (0, 0)

    def log_p(text):
        whole = torch.tensor([HEADER + text + question])
        with model.plain():
            log_p = model(whole, targets=whole)[0].log_softmax(-1)[0]
            first = model(torch.tensor([HEADER]))[0].log_softmax(-1)[0, 0, question[0]]  # sees no text
        at = len(HEADER) + len(text)
        return (first + sum(log_p[at + i, token] for i, token in enumerate(question[1:]))).item()
    text = TEXTS[votes.index(max(votes))]
    return (best - next) / len(question) / len(HEADS) + (log_p(text) - log_p([])) / len(question)


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
