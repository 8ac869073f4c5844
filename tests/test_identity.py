"""
Which model, and frozen or not: a hash of every number, which casts do not change; a frozen model takes no
others.

$ python -m pytest tests/test_identity.py
"""
import copy
import dataclasses
import functools
import inspect
import os
import pickle

import pytest
import torch
from conftest import PROMPT, REMEMBERED, ROOT, tiny_model

from core import packed, weights
from core.lazily import Lazily, OnFile
from load import load_model
from memory import PersistentMemory
from model import GPT
from reader import Reading

IDX = torch.tensor([PROMPT])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiny')
    tiny_model().save_pretrained(folder)
    return str(folder)


def test_any_head_that_is_another_makes_another_model():
    model = GPT.from_pretrained(os.path.join(ROOT, 'assets', 'tinyworld')).unfreeze()
    before, c = model.fingerprint(), model.config
    found, size = {before}, c.n_embd // c.n_head
    with torch.no_grad():
        for block in model.transformer.h:
            for head in range(c.n_head):
                rows = block.attn.c_attn.weight[head * size:(head + 1) * size]
                kept = rows.clone()
                rows.zero_()
                found.add(model.fingerprint())
                rows.copy_(kept)
    assert len(found) == 1 + c.n_layer * c.n_head
    assert model.fingerprint() == before


def test_one_number_of_any_parameter_makes_another_model():
    model = tiny_model()
    found = {model.fingerprint()}
    with torch.no_grad():
        for _, p in model.named_weights():
            p.view(-1)[-1].add_(1e-3)
            found.add(model.fingerprint())
    assert len(found) == 1 + len(list(model.named_weights()))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_a_cast_model_is_still_the_same_one_frozen_or_not(folder, dtype):
    exact = GPT.from_pretrained(folder)
    assert GPT.from_pretrained(folder, dtype=dtype).fingerprint() == exact.fingerprint()
    assert GPT.from_pretrained(folder).to(dtype).fingerprint() == exact.fingerprint()
    model = tiny_model().to(dtype)
    assert model.fingerprint() == exact.fingerprint()
    with torch.no_grad():
        model.transformer.wpe.weight[3, 3] += 1
    assert model.fingerprint() != exact.fingerprint()


def test_a_memory_is_read_by_its_model_in_any_dtype(folder, tmp_path):
    path = tmp_path / 'm.safetensors'
    PersistentMemory.from_tokens(GPT.from_pretrained(folder), REMEMBERED, (0,)).save(path)
    for dtype in (torch.float16, torch.bfloat16):
        assert len(PersistentMemory.load(path, GPT.from_pretrained(folder, dtype=dtype))) == 13


def test_a_model_is_packed_however_it_was_loaded(folder):
    tinyworld = load_model(os.path.join(ROOT, 'assets', 'tinyworld'), device='cpu')[0]
    for model in (GPT.from_pretrained(folder), GPT.from_pretrained(folder).to(torch.float32), tinyworld):
        assert all(block.mlp.c_fc.packed for block in model.transformer.h)
        assert model.lm_head.packed and model.lm_head.weight is model.transformer.wte.weight, 'a copy'


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.int8, torch.int4])
def test_weights_come_some_rows_at_a_time_and_are_those_of_all_at_once(dtype, folder, monkeypatch):
    whole, read = GPT.from_pretrained(folder, dtype=dtype), []
    monkeypatch.setattr(packed, 'NUMBERS_AT_ONCE', 100)
    sizes, state = weights.load(folder)

    def watched(name):
        w = state[name]
        return OnFile(w.shape, lambda rows: read.append(w[rows]) or read[-1])
    model = GPT.of_weights(sizes, Lazily({name: functools.partial(watched, name) for name in state}),
                           dtype=dtype)
    assert max(some.numel() for some in read) == 96, 'three rows of 32, one of more than 100, or a vector'
    assert (model.fingerprint(), model.state.sampled) == (whole.fingerprint(), whole.state.sampled)
    expected = whole.state_dict()
    assert all(torch.equal(w, expected[name]) for name, w in model.state_dict().items())
    exact = GPT.from_pretrained(folder)
    assert exact.unfreeze().fingerprint() == exact.freeze().fingerprint() == model.fingerprint()


@pytest.mark.parametrize(('change', 'named'), [
    (lambda state: state.pop('transformer.ln_f.weight'), 'transformer.ln_f.weight is missing'),
    (lambda state: state.update(other=torch.ones(2)), 'other is none of its own'),
    (lambda state: state.update({'transformer.ln_f.weight': torch.ones(3)}), r'has the shape \(3,\)')])
def test_weights_that_are_not_the_models_are_named(change, named):
    model = tiny_model()
    state = dict(model.state_dict())
    change(state)
    with pytest.raises(ValueError, match=named):
        GPT.of_weights(dataclasses.asdict(model.config), state)


def test_a_tied_head_is_the_embedding_itself_in_any_dtype_but_rounded(folder):
    for dtype in torch.float32, torch.float16:
        model = GPT.from_pretrained(folder, dtype=dtype)
        assert model.lm_head.weight is model.transformer.wte.weight


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=[
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')])])
def test_a_frozen_model_takes_no_other_weights_and_cannot_be_trained(folder, device):
    model = GPT.from_pretrained(folder, device)
    before, name = model(IDX.to(device))[0], model.fingerprint()
    with pytest.raises(ValueError, match='frozen, so it takes no other weights: call model.unfreeze'):
        model.load_state_dict(tiny_model(seed=1).state_dict())
    with pytest.raises(ValueError, match='frozen, so it cannot be trained: call model.unfreeze'):
        model.train()
    assert torch.equal(model(IDX.to(device))[0], before)
    assert model.fingerprint() == name
    with torch.no_grad():
        model.transformer.wte.weight.add_(1)
    with pytest.raises(ValueError, match='the weights were changed while the model was frozen'):
        PersistentMemory.from_tokens(model, REMEMBERED, (0,))


def test_an_unfrozen_model_trains_and_is_then_another():
    model = tiny_model().freeze()
    plain, name = model(IDX)[0], model.fingerprint()
    model.unfreeze().train()
    torch.testing.assert_close(model(IDX)[0], plain, atol=1e-4, rtol=1e-4)
    assert model.fingerprint() == name
    assert model.lm_head.weight is model.transformer.wte.weight
    model(IDX, targets=IDX)[1].backward()
    torch.optim.AdamW(model.parameters(), lr=1e-2).step()
    assert model.fingerprint() != name
    assert not torch.allclose(model(IDX)[0], plain)


def test_a_state_dict_is_dense_frozen_or_not():
    model = tiny_model()
    before = {name: w.clone() for name, w in model.state_dict().items()}
    after = model.freeze().state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(w, after[name]) for name, w in before.items())


@pytest.mark.parametrize('twin_of', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_frozen_model_can_be_copied_and_pickled_with_its_memory(folder, twin_of):
    model = GPT.from_pretrained(folder)
    plain = model(IDX)[0]
    memory = PersistentMemory.from_tokens(model, REMEMBERED, (0, 2))
    model.attach_memory(memory, (0, 2), method=3, memory_fraction=5.0)
    twin = twin_of(model)
    assert torch.equal(twin(IDX)[0], model(IDX)[0])
    assert twin.fingerprint() == model.fingerprint()
    twin.detach_memory()
    assert torch.equal(twin(IDX)[0], plain)
    assert not torch.equal(model(IDX)[0], plain), 'a copy has readers of its own'
    twin.readers = model.readers
    twin.unfreeze().train()
    twin(IDX, targets=IDX)[1].backward()


def test_attach_memory_has_the_defaults_of_a_reading():
    parameters = inspect.signature(GPT.attach_memory).parameters.items()
    given = {name: parameter.default for name, parameter in parameters}
    defaults = {**dataclasses.asdict(Reading()), 'layers': None}
    assert {name: given[name] for name in list(given)[2:]} == defaults


def test_a_model_that_is_loaded_draws_no_numbers_and_one_that_is_made_does():
    sizes, state = dataclasses.asdict(tiny_model().config), tiny_model(seed=3).state_dict()
    before = torch.get_rng_state()
    model = GPT.of_weights(sizes, dict(state))
    assert torch.get_rng_state().equal(before)
    assert all(model.state_dict()[name].equal(tensor) for name, tensor in state.items())
    GPT(model.config)
    assert not torch.get_rng_state().equal(before)
