"""
Method 5 where things end: other beginnings in one batch, the context's end, texts without rows, no texts.

$ python -m pytest tests/test_recall_limits.py
"""
import copy

import pytest
import torch
from test_recall import FAMILIES, HEADER, PROMPT, QUESTION, TEXTS, attach, library
from test_rotary import tiny_family

from core.approximate import Approximate
from core.held import Recent
from core.narrow import IndexRows, narrowed
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


@pytest.mark.parametrize('every', (0, 7))
def test_with_drop_half_what_follows_a_recalled_text_runs_again_now_and_then(llama, every, monkeypatch):
    attach(llama, library(llama), recall_every=every)
    chunks, logits = [], llama.newest_logits
    monkeypatch.setattr(llama, 'newest_logits',
                        lambda idx, cache: chunks.append(idx.size(1)) or logits(idx, cache))
    for half in (False, True):
        chunks.clear()
        llama.generate(torch.tensor([PROMPT]), 60, top_k=1, drop_half=half)
        again = [n for step, n in enumerate(chunks) if n > 1 and (not every or step % every)]
        assert len(again) <= 4 if half else len(again) > 20


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


# ---- what runs again, and is kept ----

@pytest.mark.parametrize('family', FAMILIES)
def test_texts_that_run_again_together_have_their_own_rows_and_keep_no_others(family):
    model = tiny_family(family)
    whole, tokens = (library(model, keep=keep) for keep in ('values', 'tokens'))
    runs, layers = [(n,) for n in (2, 0, 1)], tuple(range(model.config.n_layer))
    assert len({whole.texts[n]['rows'] for n, in runs}) > 1
    again = tokens.rows_of(model, tokens.held, runs, layers)
    for run, rows in whole.rows_of(model, whole.held, runs, layers).items():
        for layer in layers:
            torch.testing.assert_close(again[run][layer], rows[layer], atol=1e-5, rtol=1e-5)
            assert all(part.untyped_storage().nbytes() == part.nbytes for part in again[run][layer])


def test_what_was_made_lately_is_kept_up_to_so_many_bytes_the_least_recently_used_forgotten_first():
    made, recent = [], Recent(bytes_kept=2 * 4 * 10)

    def make(keys):
        made.extend(keys)
        return [{0: (torch.full((10,), float(key)),)} for key in keys]
    for keys in ([1, 2], [1], [3], [2, 1]):
        assert {key: rows[0][0][0].item() for key, rows in recent.get(keys, make).items()} == {
            key: float(key) for key in keys}
    assert made == [1, 2, 3, 2]  # of 1 and 2, 1 was used last when 3 came


def test_models_in_two_dtypes_that_share_a_memory_each_read_their_own_rows(llama):
    memory, narrow = library(llama, keep='tokens'), copy.deepcopy(llama).bfloat16()
    runs = [(0,), (1,)]
    first, second, alone = (memory.rows_of(model, memory.held, runs, (1,))[0,][1][0] for memory, model in (
        (memory, llama), (memory, narrow), (library(llama, keep='tokens'), narrow)))
    assert torch.equal(second, alone) and not torch.equal(first, second)
    assert torch.equal(memory.rows_of(llama, memory.held, runs, (1,))[0,][1][0], first)


def test_a_candidate_that_does_not_fit_is_not_read_and_stops_nothing(llama):
    long = [1 + n % 40 for n in range(llama.config.block_size - len(PROMPT) + 1)]
    memory = library(llama, [*TEXTS, long])
    attach(llama, memory, recall_candidates=len(TEXTS) + 1)
    recaller, idx = llama.recaller, torch.tensor([PROMPT])
    close = torch.tensor([1.0] * len(TEXTS) + [1.1])
    span = len(HEADER), len(PROMPT)
    (number,), _, _ = recaller.best(llama, idx, memory.held, span, close, 4)
    assert number < len(TEXTS)
    with pytest.raises(ValueError, match='shorten the prompt, or remember in shorter texts'):
        recaller.likelihoods(llama, idx, span, memory.held, [(len(TEXTS),)])


def test_an_approximate_index_is_made_once_whatever_is_forgotten(llama, monkeypatch, tmp_path):
    memory, made = library(llama), []
    monkeypatch.setattr('core.held.Approximate', lambda *given: made.append(1) or Approximate(*given))
    attach(llama, memory, index='Flat')
    for _ in range(2):
        llama.generate(torch.tensor([PROMPT]), 2, top_k=1)
        memory.save(tmp_path / 'notes')
        memory.forget([0] if not memory.forgotten else [])
        llama.generate(torch.tensor([PROMPT]), 2, top_k=1)
    assert len(made) == 1


def test_an_approximate_index_stays_when_few_rows_are_added_and_finds_these_too(llama, monkeypatch):
    memory, made = library(llama, TEXTS[1:]), []
    monkeypatch.setattr('core.held.Approximate', lambda *given: made.append(1) or Approximate(*given))
    monkeypatch.setattr('core.approximate.NEWER', (len(TEXTS[0]) + 1) / len(memory))
    attach(llama, memory, index='Flat', recall_votes=5)

    def voted():
        return llama.recaller.votes(llama, torch.tensor([PROMPT]), memory.held)[0]
    before, older = memory.held, voted()
    memory.add(llama, HEADER + TEXTS[0])
    grown = voted()
    assert len(made) == 1 and grown.shape == (1, len(TEXTS))
    assert torch.equal(llama.recaller.votes(llama, torch.tensor([PROMPT]), before)[0], older)
    attach(llama, memory, recall_votes=5)
    assert torch.allclose(voted(), grown, atol=1e-4) and grown[0, -1] > 0
    attach(llama, memory, index='Flat', recall_votes=5)
    for rows, times in (([7], 1), ([7, 8], 2)):  # the second are too many
        memory.merge(library(llama, [rows]))
        assert voted().shape == (1, len(memory.texts)) and len(made) == times


def test_rows_behind_those_of_an_approximate_index_are_found_as_if_it_were_made_of_all():
    torch.manual_seed(0)
    keys, queries = torch.randn(100, 16), torch.randn(6, 16)
    index, all_rows = Approximate(keys[:95], 'Flat'), IndexRows.of(narrowed(keys, torch.int8))
    scores, ids = index.search(queries, 10, IndexRows(keys))
    exact = (queries @ keys.T).topk(10)
    assert ids.tolist() == exact.indices.tolist() and ids.max() >= 95
    torch.testing.assert_close(scores, exact.values)
    narrow = index.search(queries, 10, all_rows)
    mixed = torch.cat((queries @ keys[:95].T, queries @ all_rows.float()[95:].T), dim=1).topk(10)
    assert narrow[1].tolist() == mixed.indices.tolist()
    torch.testing.assert_close(narrow[0], mixed.values)
    assert not index.misses_many_of(IndexRows(keys)) and index.misses_many_of(IndexRows(keys.repeat(2, 1)))


@pytest.mark.parametrize('positions', ('insert', 'own', 'far'))
def test_rows_that_begin_differently_are_refused_or_each_as_alone_in_one_forward(llama, positions):
    attach(llama, library(llama), positions=positions)
    rows = torch.tensor([PROMPT, [9, 9] + QUESTION])
    if positions != 'far':
        with pytest.raises(ValueError, match='begin with different parts .* or call generate'):
            llama(rows)
        rows = rows[:1].expand(2, -1)
    together = llama(rows)[0]
    for b in range(2):
        torch.testing.assert_close(together[b], llama(rows[b, None])[0][0], atol=1e-4, rtol=1e-4)
