"""
Index heads: what votes are worth, the greedy choice, the search on a tiny model.

$ python -m pytest tests/test_index_heads.py
"""
import math
import os

import numpy as np
import pytest
import torch
from conftest import ROOT
from test_rotary import FAMILIES, slow_turn, tiny_family

from lab import index_finder, index_heads
from lab.drawing import png
from lab.index_finder import votes_by_head
from lab.made_up import Question
from lab.many_texts import Asking, Library
from lab.maps import head_map
from load import tokenizer_of_folder
from reader import Reading

RIGHT = np.array([0, 1, 2, 0])


def votes(*rows):
    return np.array(rows, dtype=np.float32)


GOOD = votes([5, 1, 0], [0, 4, 0], [9, 0, 0], [3, 0, 2])  # finds all but the third question's
OTHER = votes([0, 1, 0], [1, 0, 0], [0, 0, 30], [0, 1, 0])  # finds the third alone
NOISE = votes([0, 2, 0], [1, 0, 0], [1, 0, 0], [0, 0, 3])


def test_a_text_is_found_that_has_more_votes_than_all_others():
    np.testing.assert_array_equal(index_heads.places(GOOD, RIGHT), [0, 0, 2, 0])
    assert index_heads.share_found(GOOD, RIGHT) == 0.75
    assert index_heads.share_found(GOOD, RIGHT, within=3) == 1
    np.testing.assert_array_equal(index_heads.share_found(np.stack([GOOD, NOISE]), RIGHT), [0.75, 0])
    assert index_heads.share_found(np.zeros((4, 3)), RIGHT) == 0  # as many votes as the others is not found


def test_a_margin_is_the_lead_over_the_best_other_text():
    np.testing.assert_allclose(index_heads.margins(GOOD, RIGHT), [0.8, 1, -1, 1 / 3], rtol=1e-6)
    assert index_heads.score(GOOD, RIGHT) == pytest.approx((0.5 + 0.5 - 1 + 1 / 3) / 4)


def test_the_greedy_choice_takes_what_does_most_for_those_before_it_of_heads_that_find_much_alone():
    twin, half = GOOD * 0.9, OTHER + votes([5, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0])
    heads = np.stack([NOISE, twin, GOOD, half])
    (first, one), (second, two), (third, all_three) = index_heads.greedy(heads, RIGHT, range(4), 9, 9)
    assert (second, {first, third}) == (3, {1, 2})  # not the twin next, and never the noise
    assert one == pytest.approx(index_heads.score(heads[first], RIGHT))
    assert two == pytest.approx(index_heads.score(heads[first] + half, RIGHT))
    assert all_three == pytest.approx(index_heads.score(twin + half + GOOD, RIGHT))
    assert [i for i, _ in index_heads.greedy(heads, RIGHT, range(4), 2, 9)] == [first, 3]


def test_a_chosen_set_shares_few_key_heads():
    rng = np.random.default_rng(3)
    heads, right = rng.random((9, 30, 4)), rng.integers(0, 4, 30)
    heads[:, np.arange(30), right] += 0.4  # all find much
    shares = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for most_key_heads in (1, 2, 3):
        slow = []
        for _ in range(5):
            allowed = [i for i in range(9) if i not in slow
                       and len({shares[j] for j in [*slow, i]}) <= most_key_heads]
            if allowed:
                slow.append(max(allowed, key=lambda i: index_heads.score(heads[[*slow, i]].sum(0), right)))
        chosen = [i for i, _ in index_heads.greedy(heads, right, shares, 5, most_key_heads)]
        assert chosen == slow and len({shares[i] for i in chosen}) <= most_key_heads


def test_the_threshold_is_what_a_share_of_questions_exceeds_whose_text_is_gone():
    rng = np.random.default_rng(0)
    many, right, voters = rng.random((200, 9)), rng.integers(0, 9, 200), rng.integers(3, 9, 200)
    evidence, found = index_heads.lead(many, voters), index_heads.places(many, right) == 0
    threshold = index_heads.threshold_of(index_heads.lead(index_heads.without(many, right), voters), 0.1)
    slow = []
    for row, own, tokens in zip(many, right, voters):
        best, second = sorted(np.delete(row, own))[:-3:-1]
        slow.append((best - second) / tokens)
    assert sum(one >= threshold for one in slow) == 20
    recalled, rightly = index_heads.share_recalled(evidence, found, threshold)
    best_two = np.sort(many, axis=1)[:, -2:]
    above = (best_two[:, 1] - best_two[:, 0]) / voters >= threshold
    assert recalled == above.mean()
    assert rightly == pytest.approx((many.argmax(1) == right)[above].mean())


def test_a_threshold_is_one_that_a_reading_takes_and_that_abstains():
    threshold = round(index_heads.threshold_of(np.linspace(-1, -0.1, 50), 0.1), 3)  # as best.py has it
    assert Reading(method=5, index_heads=((0, 1),), recall_threshold=threshold).recall_threshold > 0


# ---- a model's votes ----

def slow_votes(model, texts, turns, head, distance, count):
    """One head's, question by question and row by row, with a rotation of another make. -> (Q, N)."""
    (layer, h), c, votes = head, model.config, []
    key_head = h // (c.n_head // c.n_kv_head)
    keys = [model.heads_of(torch.tensor([[*ids]]), (layer,))[layer][1][0, key_head, first:]
            for ids, first in texts]
    for ids, first, end in turns:
        queries = model.heads_of(torch.tensor([ids]), (layer,))[layer][0][0, h, first:end]
        total = [0.0] * len(texts)
        for query in queries:
            query = slow_turn(query[None], [distance], c)[0]
            best = [max((query @ key).item() / math.sqrt(c.head_size) for key in own) for own in keys]
            floor = sorted(best, reverse=True)[count - 1]
            total = [so_far + max(0.0, one - floor) for so_far, one in zip(total, best)]
        votes.append(total)
    return np.array(votes)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_heads_votes_are_those_of_loops(family):
    tokenizer = tokenizer_of_folder(os.path.join(ROOT, 'assets', 'tinyworld'))
    model = tiny_family(family, vocab_size=tokenizer.n_vocab, block_size=100)
    texts = ('The mayor of Taldun is Ida.', 'Cats are old.', 'A river runs through Brana, far away.')
    questions = (Question('Who is mayor of Taldun?', ('Ida',)), Question('', ('old',), 'Cats are'))
    heads = (0, 1), (2, 3)
    votes, tokens = votes_by_head(model, tokenizer, Library(texts, questions, np.array([0, 1])), heads,
                                  Asking(distance=20, recall_votes=2))
    newline = len(tokenizer.encode('\n'))
    remembered = [(tokenizer.encode('\n' + text), newline) for text in texts]
    parts = [[tokenizer.encode(part) for part in ('\nQuestion:', ' Who is mayor of Taldun?', '\nAnswer:')],
             [tokenizer.encode('\n'), tokenizer.encode('Cats are'), []]]
    turns = [(sum(map(list, one), []), len(one[0]), len(one[0]) + len(one[1])) for one in parts]
    assert tokens.tolist() == [end - first for _, first, end in turns]
    for head, own in zip(heads, votes):
        np.testing.assert_allclose(own, slow_votes(model, remembered, turns, head, 20, 2), atol=2e-4)


def log_p(model, ids, first):
    """Nats of the tokens from `first` on, by the plain model."""
    idx = torch.tensor([ids])
    logits = model.lm_head(model.hidden(idx))[0, first - 1:-1]
    return logits.log_softmax(-1).gather(1, idx[0, first:, None]).sum().item()


@torch.inference_mode()
def test_the_evidence_is_the_best_texts_lead_and_what_it_gives_a_token_of_the_first_questions(monkeypatch):
    tokenizer = tokenizer_of_folder(os.path.join(ROOT, 'assets', 'tinyworld'))
    model = tiny_family('llama', vocab_size=tokenizer.n_vocab, block_size=100)
    texts = ('The mayor of Taldun is Ida.', 'Cats are old.', 'A river runs.')
    questions = [Question('', (), words) for words in ('Cats are', 'The mayor of', 'A river', 'Who runs')]
    questions[1] = Question('The mayor of?', ())  # which is asked behind "Question:", and weighed without
    given = np.array([[3, 1, 0], [0, 9, 5], [0, 2, 8], [7, 0, 0]], dtype=np.float32)
    right, voters = np.array([0, 1, 2, 0]), np.array([2.0, 4.0, 8.0, 2.0])
    monkeypatch.setattr(index_finder, 'WEIGHED', 3)
    found = index_finder.evidence_of(model, tokenizer, Library(texts, tuple(questions), right), given, voters,
                                     Asking())
    leads = np.array([[2 / 2, 4 / 4, 6 / 8], [1 / 2, 5 / 4, 2 / 8]])
    gains, newline = np.zeros((2, 3)), tokenizer.encode('\n')
    for q, best in enumerate(zip((0, 1, 2), (1, 2, 1))):  # with the right text, and with its votes taken away
        asked = tokenizer.encode(questions[q].begins or f' {questions[q].words}')
        for row, text in enumerate(best):
            before = tokenizer.encode('\n' + texts[text])
            # the first word is told by the header, which no text stands before
            gains[row, q] = (log_p(model, before + asked, len(before) + 1)
                             - log_p(model, newline + asked, len(newline) + 1)) / len(asked)
    assert abs(gains).min() > 1e-3
    np.testing.assert_allclose(found, 2 * leads + gains, atol=1e-4)


def test_the_map_shows_every_head():
    assert png(head_map(np.random.default_rng(0).random((6, 4)), [(2, 3), (5, 0)])).startswith(b'\x89PNG')
