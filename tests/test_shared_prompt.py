"""
A prompt that all rows of a batch share: it is kept once, and each row is written as if it were alone.

$ python -m pytest tests/test_shared_prompt.py
"""
import pytest
import torch
from conftest import tiny_model
from test_recall import HEADER, HEADS, TEXTS, library
from test_rotary import FAMILIES, tiny_family

from core import cache as cache_module
from core.cache import Cache
from memory import PersistentMemory

PROMPT = [*HEADER, 7, 19, 4, 11, 8]
NEWEST = [[5, 9, 3], [6, 2, 12], [5, 9, 4]]  # what three rows go on with
SIZE = 20
READINGS = {  # and the layers of three whose prompt is kept once
    'plain': (None, [0, 1, 2]),
    'each': ({'layers': (1,), 'method': 3, 'select': 'each'}, [0, 2]),
    'last': ({'layers': (1,), 'method': 2, 'select': 'last'}, [0]),
    'method 4': ({'layers': (1,), 'method': 4, 'k': 4, 'softmax_scale': 1.0}, [0, 2])}


@pytest.fixture(autouse=True)
def few_rows_are_shared_too(monkeypatch):
    monkeypatch.setattr(cache_module, 'SHARED_FROM_ROWS', 0)


def tiny(family):
    return tiny_model() if family == 'gpt2' else tiny_family(family)


def attached(model, settings):
    if settings:
        memory = PersistentMemory.from_tokens(model, [*HEADER, *TEXTS[0]], settings['layers'])
        model.attach_memory(memory, memory_fraction=5.0, bookkeeping_fraction=0.5, **settings)
    return model


@pytest.mark.parametrize('reads', READINGS)
@pytest.mark.parametrize('family', ['gpt2', *FAMILIES])
def test_each_row_behind_a_shared_prompt_has_the_logits_that_it_has_alone(family, reads):
    settings, layers = READINGS[reads]
    model, cache = attached(tiny(family), settings), Cache(SIZE)
    with torch.inference_mode():
        model.begin(cache, len(PROMPT))
        model.newest_logits(torch.tensor([PROMPT]), cache)
        cache.share(len(NEWEST))
        for step in range(3):
            found = model.newest_logits(torch.tensor(NEWEST)[:, step, None], cache)
            rows = torch.tensor([[*PROMPT, *row[:step + 1]] for row in NEWEST])
            alone = torch.cat([model(row[None])[0][:, -1] for row in rows])
            torch.testing.assert_close(found, alone, atol=2e-4, rtol=1e-4)
    assert sorted(layer for layer, _ in cache.shared) == layers
    assert all(cache.rows[key].size(-2) == SIZE - len(PROMPT) for key in cache.shared), 'no room for it'
    assert all(len(rows) == 1 for rows in cache.shared.values())


@pytest.mark.parametrize('positions', ['insert', 'far'])
def test_rows_that_recall_the_same_and_share_a_prompt_are_written_as_each_alone(positions):
    model = tiny('llama')
    model.attach_memory(library(model), method=5, index_heads=HEADS, distance=20, positions=positions)
    idx, seeds = torch.tensor([PROMPT]).expand(3, -1), [1, 2, 3]
    together = model.generate(idx, 6, seeds=seeds)
    assert model.recalled[0][0][1], 'a text is read'
    alone = [model.generate(idx[:1], 6, seeds=[seed]) for seed in seeds]
    assert torch.equal(together, torch.cat(alone))
    assert len(together.unique(dim=0)) > 1
    cache = Cache(SIZE)
    model(idx[:1], cache=cache)
    cache.share(3)
    kept = [key for key in cache.shared if key in cache.front]
    assert len(kept) == (3 if positions == 'insert' else 0), 'what was recalled is shared with the prompt'
    assert all(cache.shared[key].size(-2) == cache.front[key].size(-2) + len(PROMPT) - len(HEADER)
               for key in kept)


def test_a_short_prompt_of_few_rows_is_copied_for_each(monkeypatch):
    monkeypatch.setattr(cache_module, 'SHARED_FROM_ROWS', 3 * len(PROMPT) + 1)
    for rows, shared in ((3, 0), (4, 3)):
        model, cache = tiny('llama'), Cache(SIZE)
        model.begin(cache, len(PROMPT))
        model.newest_logits(torch.tensor([PROMPT]), cache)
        cache.share(rows)
        assert len(cache.shared) == shared


def test_a_context_that_is_full_shares_nothing_any_more():
    model = tiny('llama')
    size = model.config.block_size
    idx = torch.arange(size - 2)[None] % model.config.vocab_size
    together = model.generate(idx.expand(2, -1), 6, seeds=[4, 5])
    assert torch.equal(together, torch.cat([model.generate(idx, 6, seeds=[seed]) for seed in (4, 5)]))
