"""
The index: exact search, with brute force in float64 as the oracle, also among keys that nearly repeat each
other.

$ python -m pytest tests/test_index.py
"""
import os

import faiss
import pytest
import torch
from conftest import ROOT

from core.index import Index


def brute_force(index, heads, queries, k, metric):
    """The ids of each look-up in float64, best first."""
    found = []
    for h, q in zip(heads, queries.double()):
        keys = index.table.rows[h].double()
        scores = (keys - q).square().sum(-1) if metric == 'l2' else keys @ q
        found.append(scores.topk(min(k, len(keys)), largest=metric == 'product').indices)
    return torch.stack(found)


def near_copies(keys, noise, copies=20):
    """keys (nh, M, hs) -> (nh, copies * M, hs), each key many times with a little noise."""
    g = torch.Generator().manual_seed(0)
    moved = noise * torch.randn(len(keys), copies, *keys.shape[1:], generator=g)
    return (keys[:, None] + moved).flatten(1, 2)


def some_keys(n_head=3, M=40, head_size=64):
    """As a trained model's: far from the origin, so that differences of squares lose their digits."""
    g = torch.Generator().manual_seed(1)
    far = 3 * torch.randn(n_head, 1, head_size, generator=g)
    return far + torch.randn(n_head, M, head_size, generator=g)


@pytest.fixture(params=['FAISS', 'one product'])
def way(request, monkeypatch):
    """Each way to find candidates, whatever the size; the product in several blocks of queries."""
    monkeypatch.setattr('core.index.STACKED_FROM_PAIRS', 0 if request.param == 'one product' else 10**18)
    monkeypatch.setattr('core.index.SCORES_A_BLOCK', {'cpu': 5000, 'gpu': 5000})
    monkeypatch.setattr('core.index.NUMBERS_A_RANKING', 20_000)


@pytest.mark.parametrize('metric', ['l2', 'product'])
@pytest.mark.parametrize('noise', [1e-1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize('queries_a_head', [1, 30])
def test_the_nearest_of_near_duplicates_are_those_of_brute_force_in_float64(
        way, metric, noise, queries_a_head):
    keys = some_keys()
    index = Index(near_copies(keys, noise))
    heads = torch.arange(3).repeat_interleave(queries_a_head)
    g = torch.Generator().manual_seed(2)
    rows = torch.randint(40, heads.shape, generator=g)
    queries = keys[heads, rows] + 0.01 * torch.randn(len(heads), 64, generator=g)
    expected = brute_force(index, heads, queries, 5, metric)
    assert torch.equal(index.search(heads, queries, 5, metric)[1], expected)


@pytest.mark.parametrize('noise', [1e-2, 1e-3])
def test_the_nearest_of_real_keys_of_gpt2_are_found_all(way, noise):
    folder = os.path.join(os.path.dirname(ROOT), 'shared', 'gpt2_cat_memstore', 'keyStore', '9')
    if not os.path.isdir(folder):
        pytest.skip('the published memory is not beside this repository, it is no part of it')
    heads = [torch.load(os.path.join(folder, f'{h}.pt'), weights_only=True).float().reshape(-1, 64)[1:]
             for h in range(12)]
    keys = torch.stack(heads)
    index, asked = Index(near_copies(keys, noise)), torch.arange(12).repeat_interleave(90)
    queries = keys.flatten(0, 1)
    assert torch.equal(index.search(asked, queries, 5)[1], brute_force(index, asked, queries, 5, 'l2'))


@pytest.mark.parametrize('metric', ['l2', 'product'])
@pytest.mark.parametrize('k', [1, 3, 40, 45])
def test_heads_in_any_order_find_their_own_rows_with_their_scores(way, metric, k):
    index, heads = Index(some_keys(M=40, head_size=8)), torch.tensor([2, 0, 1, 1, 2, 0, 0])
    queries = torch.randn(7, 8, generator=torch.Generator().manual_seed(3))
    scores, ids = index.search(heads, queries, k, metric)
    assert scores.shape == ids.shape == (7, k)
    assert torch.equal(ids[:, :40], brute_force(index, heads, queries, k, metric))
    assert (ids[:, 40:] == -1).all()
    assert (scores[:, 40:] == (torch.inf if metric == 'l2' else -torch.inf)).all()
    for n in range(7):
        keys = index.table.rows[heads[n], ids[n, :40]]
        expected = (keys - queries[n]).square().sum(-1) if metric == 'l2' else keys @ queries[n]
        torch.testing.assert_close(scores[n, :40], expected, atol=1e-4, rtol=1e-4)


def test_too_few_candidates_are_noticed_and_more_are_taken(way, monkeypatch):
    index, heads = Index(near_copies(some_keys(), 1e-4, copies=60)), torch.arange(3).repeat_interleave(25)
    queries = some_keys()[heads, torch.arange(75) % 40]
    monkeypatch.setattr('core.index.SPARE_CANDIDATES', 0)  # the first five are not the nearest five
    assert torch.equal(index.search(heads, queries, 5)[1], brute_force(index, heads, queries, 5, 'l2'))


def test_an_unknown_metric_is_refused_by_name():
    with pytest.raises(ValueError, match="metric is 'cosine', expected 'l2' or 'product'"):
        Index(some_keys()).search(torch.tensor([0]), torch.zeros(1, 64), 1, 'cosine')


def test_faiss_searches_on_one_thread_and_torch_keeps_its_own(monkeypatch):
    before, search, seen = torch.get_num_threads(), faiss.knn, []

    def knn(*given, **named):
        seen.append(faiss.omp_get_max_threads())
        return search(*given, **named)

    monkeypatch.setattr('faiss.knn', knn)
    torch.set_num_threads(2)
    Index(some_keys()).search(torch.tensor([0, 1]), torch.zeros(2, 64), 1)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    assert seen == [1, 1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
@pytest.mark.parametrize('metric', ['l2', 'product'])
@pytest.mark.parametrize('noise', [1e-2, 1e-3])
def test_a_gpu_finds_what_brute_force_in_float64_finds(metric, noise):
    index, heads = Index(near_copies(some_keys(), noise)), torch.arange(3).repeat_interleave(30)
    queries = some_keys()[heads, torch.arange(90) % 40]
    found = index.search(heads.cuda(), queries.cuda(), 5, metric)[1].cpu()
    assert torch.equal(found, brute_force(index, heads, queries, 5, metric))
