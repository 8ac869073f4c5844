"""
Method 5 where things end: other beginnings in one batch, the context's end, texts without rows, no texts.

$ python -m pytest tests/test_recall_limits.py
"""
import pytest
import torch
from test_recall import HEADER, PROMPT, QUESTION, TEXTS, attach, library
from test_rotary import tiny_family

from core.approximate import Approximate
from memory import PersistentMemory


@pytest.fixture
def llama():
    return tiny_family('llama')


def test_a_row_with_another_beginning_changes_nothing_in_the_rows_beside_it(llama):
    attach(llama, library(llama))
    rows = [PROMPT, [9, 9] + QUESTION, [3, 9] + QUESTION]
    together, recalled = llama.generate(torch.tensor(rows), 6, seeds=[1, 2, 3]), llama.recalled
    searches = llama.searches[0]
    for b, row in enumerate(rows):
        alone = llama.generate(torch.tensor([row]), 6, seeds=[b + 1])
        searches -= llama.searches[0]
        assert torch.equal(together[b], alone[0])
        (_, numbers, votes), = llama.recalled[0]
        assert recalled[b] == [(0, numbers, pytest.approx(votes, abs=1e-4))]
    assert searches == 0


@pytest.mark.parametrize('candidates', (1, 3))
def test_it_goes_on_recalling_past_the_end_of_the_context(llama, candidates):
    attach(llama, library(llama), recall_every=4, recall_candidates=candidates)
    size = llama.config.block_size
    assert llama.generate(torch.tensor([PROMPT]), size, top_k=1).shape == (1, len(PROMPT) + size)
    assert [step for step, *_ in llama.recalled[0]] == list(range(0, size, 4))


def test_a_text_without_rows_gets_no_vote_and_gives_none(llama):
    memory = library(llama)
    attach(llama, memory, recall_texts=6)
    with_it, idx = library(llama), torch.tensor([PROMPT])
    with_it.add(llama, HEADER)
    expected, _ = llama.recaller.votes(llama, idx, memory.held)
    attach(llama, with_it)
    votes, _ = llama.recaller.votes(llama, idx, with_it.held)
    assert torch.allclose(votes[:, :len(TEXTS)], expected, atol=1e-5) and votes[0, -1] == 0


def test_a_file_of_tokens_alone_opens_whatever_layers_are_to_read(llama, tmp_path):
    path = tmp_path / 'tokens.safetensors'
    library(llama, keep='tokens').save(path)
    for layers in ((), (0,), (2,)):
        memory = PersistentMemory.load(path, llama, layers)
        attach(llama, memory, layers=layers)
        llama.generate(torch.tensor([PROMPT]), 2, top_k=1)
        assert llama.recalled[0][0][1]


def test_an_index_of_no_lists_is_refused():
    with pytest.raises(ValueError, match="memory_index is 'IVF0,Flat', which FAISS cannot make"):
        Approximate(torch.randn(50, 16), 'IVF0,Flat')


def test_a_memory_that_is_emptied_while_it_is_read_recalls_nothing_from_then_on(llama, monkeypatch):
    memory = library(llama)
    attach(llama, memory, recall_every=2)
    recalled = llama.recaller.recalled

    def emptied_behind(*args):
        found = recalled(*args)
        memory.forget([*range(len(TEXTS))] if not memory.forgotten and memory.texts else [])
        memory.compact()
        return found

    monkeypatch.setattr(llama.recaller, 'recalled', emptied_behind)
    llama.generate(torch.tensor([PROMPT]), 5, top_k=1)
    assert [bool(numbers) for _, numbers, _ in llama.recalled[0]] == [True, False, False]


def test_votes_for_one_text_alone_would_all_be_nothing_and_are_refused(llama):
    with pytest.raises(ValueError, match='recall_votes is 1, expected a whole number from 2 on'):
        attach(llama, library(llama), recall_votes=1)
