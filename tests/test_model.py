"""
The plain model: Hugging Face and nanoGPT as the oracles, weights in and out.

$ python -m pytest tests/test_model.py
"""

import pytest
import torch
from conftest import PROMPT, tiny_model
from torch.nn import functional as F

from core.sampling import races_are_known, sample, seed_list
from model import GPT, Cache

IDX = torch.tensor([PROMPT, PROMPT[::-1]])


def test_the_loss_is_the_mean_cross_entropy_of_the_targets_that_count(model):
    targets = IDX.roll(-1, dims=1)
    targets[:, -1] = -1
    logits, loss = model(IDX, targets)
    expected = F.cross_entropy(logits[:, :-1].reshape(-1, 48), targets[:, :-1].reshape(-1))
    torch.testing.assert_close(loss, expected)


def nanogpt_generate(model, idx, n, temperature, top_k, seed, at_once=1):
    """nanoGPT's loop as it is documented: no cache, the global generator, the context cropped from the
    left; at_once: so many tokens leave it, where it is full."""
    torch.manual_seed(seed)
    first = 0
    for _ in range(n):
        while idx.size(1) - first > model.config.block_size:
            first += at_once
        with torch.no_grad():
            logits = model(idx[:, first:])[0][:, -1] / temperature
        if top_k is not None:
            logits[logits < logits.topk(min(top_k, logits.size(-1))).values[:, [-1]]] = -float('inf')
        idx = torch.cat((idx, torch.multinomial(F.softmax(logits, dim=-1), 1)), dim=1)
    return idx


@pytest.mark.parametrize(('temperature', 'top_k'), [(0.8, 20), (1.0, None), (1.3, 500)])
def test_each_seed_draws_what_nanogpt_draws_alone_even_past_the_context(model, temperature, top_k):
    seeds = [1337, 2658, 8932]
    idx = torch.tensor([PROMPT])
    texts = model.generate(idx.expand(3, -1), 30, temperature, top_k, seeds)  # 42 tokens, the context is 32
    for seed, text in zip(seeds, texts, strict=True):
        alone = nanogpt_generate(model, idx, 30, temperature, top_k, seed)[0]
        assert alone.tolist() == text.tolist()


@pytest.mark.parametrize('prompt', [PROMPT, PROMPT * 6])  # of 12 tokens and of 72
def test_with_drop_half_a_full_context_loses_half_which_runs_once(model, prompt, monkeypatch):
    idx, chunks, logits = torch.tensor([prompt]), [], model.newest_logits
    monkeypatch.setattr(model, 'newest_logits',
                        lambda idx, cache: chunks.append(idx.size(1)) or logits(idx, cache))
    text = model.generate(idx, 40, 1.0, 20, [7], drop_half=True)
    assert torch.equal(text, nanogpt_generate(model, idx, 40, 1.0, 20, 7, at_once=16))
    first = {12: 12, 72: 72 - 48}[len(prompt)]
    ones = 32 - first  # tokens until the context is full
    assert chunks == ([first] + [1] * ones + ([17] + [1] * 15) * 3)[:40]


def test_without_seeds_the_global_generator_draws(model):
    torch.manual_seed(5)
    text = model.generate(torch.tensor([PROMPT]), 10)
    assert text.tolist() == nanogpt_generate(model, torch.tensor([PROMPT]), 10, 1.0, None, 5).tolist()


def test_positions_may_be_given(model):
    pos = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]] * 2)
    assert torch.equal(model(IDX, pos=torch.arange(12).expand(2, -1))[0], model(IDX)[0])
    assert not torch.allclose(model(IDX, pos=pos)[0], model(IDX)[0])


def test_chunks_through_a_cache_equal_one_pass(model):
    cache = Cache(12)
    for first, last in ((0, 5), (5, 6), (6, 12)):
        logits, _ = model(IDX[:, first:last], cache=cache)
    torch.testing.assert_close(logits, model(IDX)[0], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match='the cache holds 12 tokens'):
        model(IDX[:, :1], cache=cache)


@pytest.mark.parametrize(('call', 'message'), [
    (lambda m: m(torch.zeros(1, 33, dtype=torch.long)),
     '33 tokens are longer than the model\'s context of 32'),
    (lambda m: m.generate(torch.zeros(1, 0, dtype=torch.long), 3), 'no tokens'),
    (lambda m: m.generate(torch.tensor([[48]]), 3), 'token id 48 is outside the vocabulary of 48'),
    (lambda m: m.generate(torch.tensor([[-1]]), 3), 'token id -1'),
    (lambda m: m.generate(torch.tensor([[1]]), 3, temperature=0.0), 'temperature is 0.0'),
    (lambda m: m.generate(torch.tensor([[1]]), 3, top_k=0), 'top_k is 0'),
    (lambda m: m.generate(torch.tensor([[1]]), -1), 'max_new_tokens is -1'),
    (lambda m: m.generate(torch.tensor([[1]]), 3, seeds=[1, 2]), '2 seeds were given for 1 rows'),
])
def test_what_cannot_be_generated_is_refused_in_one_line(model, call, message):
    with pytest.raises(ValueError, match='.*') as error:
        call(model)
    assert message in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_frozen_model_computes_the_same_and_is_the_same_in_a_file(dtype, model, tmp_path):
    model.to(dtype)
    before, fingerprint, parameters = model(IDX)[0], model.fingerprint(), model.get_num_params()
    model.freeze()
    assert model.lm_head.packed, 'or the fast path is not what is tested'
    assert (model.fingerprint(), model.get_num_params()) == (fingerprint, parameters)
    for T in (1, 2, IDX.size(1)):
        close = {'atol': 1e-4, 'rtol': 1e-4} if dtype == torch.float32 else {'atol': 0.5, 'rtol': 0.05}
        torch.testing.assert_close(model(IDX[:, :T])[0], tiny_model().to(dtype)(IDX[:, :T])[0], **close)
    model.save_pretrained(tmp_path)
    again = GPT.from_pretrained(str(tmp_path)).unfreeze()
    # rounded weights are another model's
    assert (again.fingerprint() == fingerprint) == (dtype == torch.float32)
    torch.testing.assert_close(again.to(dtype)(IDX)[0], before, atol=0, rtol=0)


@pytest.mark.parametrize('top_k', [None, 1, 5, 200, 3000])
def test_a_race_draws_what_multinomial_draws_and_leaves_the_generator_where_it_would(top_k):
    assert races_are_known()
    logits = 3 * torch.randn(4, 3000, generator=torch.Generator().manual_seed(0))
    logits[0, 50:] = -float('inf')  # fewer candidates than top_k
    logits[1] = logits[1].bfloat16()  # many equal to the last of the top_k
    logits[2, :2900] = 1.0
    ours, theirs = ([torch.Generator().manual_seed(seed) for seed in range(4)] for _ in range(2))
    masked = logits / 0.7
    if top_k is not None:
        masked[masked < masked.topk(top_k).values[:, [-1]]] = -float('inf')
    for _ in range(20):
        expected = [torch.multinomial(F.softmax(row, -1), 1, generator=g) for row, g in zip(masked, theirs)]
        assert torch.equal(sample(logits, 0.7, top_k, ours), torch.stack(expected))
    next_of_ours, next_of_theirs = ([torch.rand(1, generator=g).item() for g in gs] for gs in (ours, theirs))
    assert next_of_ours == next_of_theirs
    with pytest.raises(ValueError, match='not finite'):
        sample(torch.full((1, 5), float('nan')), 1.0, top_k, ours[:1])


def test_seeds_are_different_begin_with_the_given_one_and_do_not_depend_on_how_many():
    for seed in (0, 7, 1337):
        seeds = seed_list(seed, 500)
        assert seeds[0] == seed
        assert len(set(seeds)) == 500
        assert seed_list(seed, 20) == seeds[:20]
    assert seed_list(1337, 5) == [1337, 2658, 8932, 2179, 9671]
