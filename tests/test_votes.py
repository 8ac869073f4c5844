"""
Votes and the rows they read: brute force in float64, rows of int8 within their error, and what they cost.

$ python -m pytest tests/test_votes.py
"""
import math

import pytest
import torch
from test_memory_life import HEADS, added, check_same, remembered
from test_recall import HEADS as VOTING
from test_recall import PROMPT, QUESTION, TEXTS, attach, library
from test_rotary import tiny_family

from core.approximate import Approximate
from core.memory_file import OnDisk
from core.narrow import DTYPES, IndexRows, narrowed, widened
from core.votes import above_the_floor, best_of_texts, named_texts
from memory import PersistentMemory

LENGTHS = torch.tensor([3, 1, 0, 40, 7, 0])
TOKENS = {'index_heads': HEADS, 'layers': (), 'keep': 'tokens'}


@pytest.fixture(scope='module')
def llama():
    return tiny_family('llama')


def alike(count, head_size=16):
    """Keys that nearly repeat each other, and queries."""
    g = torch.Generator().manual_seed(0)
    keys = torch.randn(1, head_size, generator=g) + 1e-3 * torch.randn(count, head_size, generator=g)
    return keys, torch.randn(5, head_size, generator=g)


# ---- exact ----

@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('block', (1, 5, 1000))
def test_each_text_has_its_best_row_of_brute_force_in_float64_among_keys_that_nearly_repeat(dtype, block,
                                                                                          monkeypatch):
    monkeypatch.setattr('core.votes.ROWS_A_BLOCK', block)
    keys, queries = alike(int(LENGTHS.sum()))
    stored = narrowed(keys, DTYPES[dtype])
    best = best_of_texts(queries, IndexRows.of(stored), LENGTHS)
    products = (queries.double() @ widened(stored).double().T).split(LENGTHS.tolist(), dim=1)
    for text, own in enumerate(products):
        if own.size(1) == 0:
            assert (best[:, text] == -math.inf).all()
        else:
            torch.testing.assert_close(best[:, text].double(), own.amax(1), atol=1e-5, rtol=0)


def test_what_counts_is_above_the_floor_and_a_text_without_rows_counts_as_the_weakest():
    best = torch.tensor([[5.0, 1.0, -math.inf, 3.0, 2.0]])
    assert above_the_floor(best, 2, best).tolist() == [[2, 0, 0, 0, 0]]
    assert above_the_floor(best, 4, best).tolist() == [[4, 0, 0, 2, 1]]
    assert above_the_floor(best, 5, best).tolist() == [[4, 0, 0, 2, 1]]


def test_rows_of_some_texts_are_those_of_the_whole(llama):
    memory = library(llama)
    whole = memory.index(memory.held, 0, 0).float().split([len(text) for text in TEXTS])
    numbers = torch.tensor([1, 2, 4])
    some = memory.index(memory.held, 0, 0)[memory.held.ids_of(numbers)].float()
    assert torch.equal(some, torch.cat([whole[n] for n in numbers]))


# ---- int8 ----

def test_int8_is_off_by_half_a_step_which_each_row_has_for_itself():
    rows = torch.randn(2, 50, 16) * torch.logspace(-30, 6, 50)[:, None]
    rows[0, 7] = 0
    stored = narrowed(rows, torch.int8)
    assert stored.shape == (2, 50, 18) and stored.dtype == torch.int8
    steps = rows.abs().amax(-1, keepdim=True) / 127
    assert ((widened(stored) - rows).abs() <= steps * 0.5 * (1 + 2**-8)).all()  # the step is a bfloat16
    assert torch.equal(narrowed(widened(stored), torch.int8), stored)
    assert torch.equal(IndexRows.of(stored[1]).float(), widened(stored[1]))


@pytest.mark.parametrize('path', ['notes.safetensors', 'notes'])
def test_a_memory_of_int8_is_saved_read_added_to_and_votes_as_it_does_in_float32(llama, path, tmp_path):
    memory = PersistentMemory.of({**remembered(llama, [], **TOKENS).description(), 'dtype': 'int8'})
    ids = [list(range(length, 2 * length)) for length in (9, 4, 7)]
    added(memory, llama, ids)
    memory.save(tmp_path / path)
    read = PersistentMemory.load(tmp_path / path, llama)
    assert read.dtype == 'int8'
    check_same(memory, read, llama)
    check_same(added(memory, llama, ids[:1]), added(read, llama, ids[:1]), llama)
    exact = remembered(llama, [*ids, ids[0]], **TOKENS)
    check_same(memory, exact, llama, tolerance=0.02)
    exact.merge(read)
    assert exact.index(exact.held, 0, 0).numbers.dtype == torch.float32
    read.merge(exact)
    assert read.index(read.held, 0, 0).numbers.dtype == torch.int8 and len(read.texts) == 12


def test_int8_votes_as_float32_does_within_its_error(llama):
    votes = {}
    for dtype in ('float32', 'int8'):
        memory = library(llama, [], 'tokens')
        memory = added_texts(PersistentMemory.of({**memory.description(), 'dtype': dtype}), llama)
        attach(llama, memory)
        votes[dtype] = llama.recaller.votes(llama, torch.tensor([PROMPT]), memory.held)[0]
    assert 0 < (votes['int8'] - votes['float32']).abs().max() < 0.02 * votes['float32'].max()


def added_texts(memory, model):
    for text in TEXTS:
        memory.add(model, [3, 17, *text])
    return memory


def test_int8_is_for_keys_of_index_heads_alone(llama):
    with pytest.raises(ValueError, match="dtype is 'int8', which keys of index heads alone can be"):
        PersistentMemory(remembered(llama).origin, (0,), dtype='int8')
    with pytest.raises(ValueError, match="dtype is 'int3', expected one of 'float32', 'bfloat16', 'int8'"):
        PersistentMemory(remembered(llama).origin, (0,), dtype='int3')


# ---- by candidates ----

def test_an_approximate_index_looks_through_a_thirty_second_of_its_lists_at_least_one():
    for lists, probed in ((16, 1), (64, 2)):
        assert Approximate(torch.randn(2500, 8), f'IVF{lists},Flat').index.nprobe == probed


def test_an_approximate_index_names_texts_and_all_heads_vote_on_these_exactly(llama, monkeypatch):
    memory, idx = library(llama), torch.tensor([PROMPT, PROMPT[:2] + PROMPT[:1:-1]])
    attach(llama, memory, recall_votes=3)
    exact, _ = llama.recaller.votes(llama, idx, memory.held)
    attach(llama, memory, recall_votes=3, index='Flat')
    monkeypatch.setattr('recall.CANDIDATES', 3)
    asked = llama.recaller.asked(llama, idx, 2)
    rows = memory.index(memory.held, 1, max(key_head for layer, key_head in asked if layer == 1))
    named = above_weakest(asked[max(asked)][0], rows.float())
    votes, voters = llama.recaller.votes(llama, idx, memory.held)
    assert voters == len(QUESTION) * len(VOTING)
    assert set(votes[0].nonzero()[:, 0].tolist()) <= named
    best = named & {int(exact[0].argmax())}
    assert all(int(votes[0].argmax()) == n for n in best)
    memory.forget(sorted(named)[:1])
    votes, _ = llama.recaller.votes(llama, idx, memory.held)
    assert votes.shape == (2, len(TEXTS) - 1)


def above_weakest(queries, keys):
    """The three texts whose best rows are most above the weakest text's, by hand."""
    lengths = [len(text) for text in TEXTS]
    best = torch.stack([own.amax(1) for own in (queries @ keys.T).split(lengths, dim=1)])
    return set((best - best.amin(0)).sum(1).topk(3).indices.tolist())


def test_texts_are_named_by_the_rows_that_a_search_found_and_forgotten_ones_are_not():
    scores, ids = torch.tensor([[9.0, 5.0, 4.0], [8.0, 3.0, 2.0]]), torch.tensor([[0, 2, 4], [5, 4, 3]])
    ends, live = torch.tensor([1, 3, 5, 6]), torch.tensor([0, 1, 3])
    assert named_texts(scores, ids, ends, live, 2).tolist() == [0, 2]
    assert named_texts(scores, ids, ends, live, 9).tolist() == [0, 1, 2]


def test_index_rows_beside_layers_are_never_int8(llama, tmp_path):
    memory = remembered(llama, index_heads=HEADS, layers=(1,))
    memory.save(tmp_path / 'a.safetensors')
    loaded = PersistentMemory.load(tmp_path / 'a.safetensors', llama)
    assert isinstance(loaded.held.parts['keys', 1][0], OnDisk)
    assert loaded.index(loaded.held, 0, 0).scales is None
