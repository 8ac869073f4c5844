"""
Weights as a CPU multiplies with them fastest: int8, and bfloat16 where the processor has no such products.

$ python -m pytest tests/test_packed.py
"""
import copy
import pickle

import pytest
import torch
from conftest import PROMPT, REMEMBERED
from torch.nn import functional as F

from core.packed import Linear
from load import load_model
from memory import PersistentMemory
from model import GPT

ROWS = 1, 3, 4, 15, 16, 40  # of both sides of WIDENED_FROM_ROWS
IDX = torch.tensor([PROMPT])


def linear(inputs, bias=True):
    torch.manual_seed(0)
    return Linear(inputs, 30, bias=bias).requires_grad_(False)


@pytest.fixture
def narrow(folder):
    return GPT.from_pretrained(folder, dtype=torch.int8)


def check_products(layer, weight, bias):
    for n in ROWS:
        x = torch.randn(n, weight.size(1)).bfloat16()
        expected = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
        for given in (x, x[None]):
            y = layer(given)
            assert (y.dtype, y.shape) == (torch.bfloat16, (*given.shape[:-1], 30))
            torch.testing.assert_close(y.double().view(n, 30), expected, atol=0.01, rtol=0.01)


@pytest.mark.parametrize(('inputs', 'bias'), [(64, True), (96, False), (18, True), (72, False)])
def test_products_with_int8_are_those_with_the_numbers_that_it_stands_for(inputs, bias):
    layer = linear(inputs, bias).bfloat16()
    exact = layer.weight.clone()
    layer.pack(int8=True)
    assert layer.weight.dtype == torch.int8
    rounded = layer.state_dict()['weight']
    scales = exact.abs().amax(1, keepdim=True) / 127
    assert ((rounded.float() - exact.float()).abs() <= 0.6 * scales + exact.abs() / 128).all()
    check_products(layer, rounded, layer.bias)


def test_a_frozen_model_in_bfloat16_multiplies_as_exactly_for_one_row_as_for_many():
    layer = linear(18).bfloat16()
    exact = layer.weight.clone()
    layer.pack()
    check_products(layer, exact, layer.bias)
    layer.unpack()
    assert torch.equal(layer.weight, exact)


def test_a_row_in_int8_is_the_same_alone_in_a_batch_and_through_a_cache(narrow):
    rows = torch.tensor([PROMPT[:6], PROMPT[1:7], PROMPT[2:8]])
    alone = torch.cat([narrow(row[None])[0] for row in rows])
    torch.testing.assert_close(narrow(rows)[0], alone, atol=0.5, rtol=0.05)
    texts = narrow.generate(rows, 5, top_k=1)
    assert texts.shape == (3, 11)


def test_int8_is_the_same_model_reads_its_memories_and_is_near_it(folder, narrow, tmp_path):
    exact = GPT.from_pretrained(folder)
    assert narrow.fingerprint() == exact.fingerprint()
    assert narrow.get_num_params() == exact.get_num_params()
    PersistentMemory.from_tokens(exact, REMEMBERED, (0,)).save(tmp_path / 'm.safetensors')
    plain = narrow(IDX)[0]
    narrow.attach_memory(PersistentMemory.load(tmp_path / 'm.safetensors', narrow), (0,), memory_fraction=5.0)
    assert not torch.equal(narrow(IDX)[0], plain)
    narrow.detach_memory()
    assert torch.equal(narrow(IDX)[0], plain)
    logits = exact(IDX)[0]
    assert torch.cosine_similarity(plain.float().flatten(), logits.flatten(), dim=0) > 0.99


@pytest.mark.parametrize('twin_of', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_int8_can_be_copied_but_neither_trained_nor_cast(narrow, twin_of):
    before = narrow(IDX)[0]
    assert torch.equal(twin_of(narrow)(IDX)[0], before)
    for wrong in (narrow.unfreeze, narrow.float):
        with pytest.raises(ValueError, match='rounded to int8 when the model was loaded: load it again'):
            wrong()
    assert torch.equal(narrow(IDX)[0], before)


def test_int8_is_a_dtype_of_loading_on_a_cpu(folder, monkeypatch):
    assert load_model(folder, device='cpu', dtype='int8')[0].lm_head.weight.dtype == torch.int8
    monkeypatch.setattr('load.pick_device', lambda device: device)
    with pytest.raises(ValueError, match="which a CPU computes, not 'cuda': take 'bfloat16'"):
        load_model(folder, device='cuda', dtype='int8')
