"""
Weights as a CPU multiplies with them fastest: int8, int4, bfloat16.

$ python -m pytest tests/test_packed.py
"""
import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import PROMPT, REMEMBERED, random_folder
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from torch.nn import functional as F

from core import kernel
from core.packed import Linear, has_bfloat16
from load import load_model
from memory import PersistentMemory
from model import GPT

ROWS = 1, 3, 4, 15, 16, 17, 40  # of both sides of kernel.MOST_ROWS
IDX = torch.tensor([PROMPT])


def linear(inputs, bias=True):
    torch.manual_seed(0)
    return Linear(inputs, 30, bias=bias).requires_grad_(False)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """In place of the one that all tests share: of sizes that int4 divides."""
    return random_folder(tmp_path_factory.mktemp('random'), 128, n_embd=32)


@pytest.fixture(params=[torch.int8, torch.int4])
def narrow(request, folder):
    return GPT.from_pretrained(folder, dtype=request.param)


def check_products(layer, weight, bias, off=lambda x: 0):
    """off(x): what the products may be off by, beside bfloat16's last bit."""
    for n in ROWS:
        x = torch.randn(n, weight.size(1)).bfloat16()
        # of many rows the weights are made wide, as wide as they are fast
        wide = weight.bfloat16() if n > kernel.MOST_ROWS and has_bfloat16() else weight
        expected = F.linear(x.double(), wide.double(), None if bias is None else bias.double())
        for given in (x, x[None]):
            y = layer(given)
            assert (y.dtype, y.shape) == (torch.bfloat16, (*given.shape[:-1], len(weight)))
            assert ((y.double().view(n, -1) - expected).abs() <= off(x) + 0.001 + expected.abs() / 128).all()


def off_by_rounded_inputs(layer):
    """Few rows are rounded to 8 bits, each group of 32 inputs by its largest: off by half a step each."""
    least = layer.scales[:, 1, :, None].float()
    numbers = (layer.wide().view(layer.out_features, -1, 32) - least).abs().sum(-1)
    return lambda x: x.double().view(len(x), -1, 32).abs().amax(-1) / 127 / 2 @ numbers.double().T


@pytest.mark.parametrize(('inputs', 'bias'), [(64, True), (96, False), (18, True), (72, False)])
def test_products_with_int8_are_those_with_the_numbers_that_it_stands_for(inputs, bias):
    layer = linear(inputs, bias).bfloat16()
    exact = layer.weight.clone()
    layer.pack(torch.int8)
    assert layer.weight.dtype == torch.int8
    rounded = layer.state_dict()['weight']
    scales = exact.abs().amax(1, keepdim=True) / 127
    assert ((rounded.float() - exact.float()).abs() <= 0.6 * scales + exact.abs() / 128).all()
    check_products(layer, rounded, layer.bias)


# of whole vectors of groups and of scales, and of what is left of both
@pytest.mark.parametrize(('inputs', 'bias'), [(64, True), (96, False), (576, False), (1536, True)])
def test_products_with_int4_are_those_with_the_numbers_that_it_stands_for(inputs, bias):
    torch.manual_seed(0)
    layer = Linear(inputs, 48, bias=bias).requires_grad_(False)
    exact = layer.weight.clone()
    layer.pack(torch.int4)
    assert layer.weight.numel() * layer.weight.element_size() == inputs * 48 / 2
    rounded = layer.state_dict()['weight']
    groups = exact.view(48, -1, 32)
    steps = (groups.amax(2, keepdim=True) - groups.amin(2, keepdim=True)) / 15
    assert ((rounded.view_as(groups) - groups).abs() <= 0.6 * steps).all()
    off = off_by_rounded_inputs(layer)
    if bias:
        layer.bias = torch.nn.Parameter(layer.bias.bfloat16(), requires_grad=False)
    check_products(layer, rounded, layer.bias, off)


@pytest.mark.parametrize('rounded', [torch.int8, torch.int4])
def test_rounded_weights_made_wide_are_the_nearest_bfloat16_of_what_they_stand_for(rounded, by_torch):
    layer = Linear(96, 33).requires_grad_(False)
    layer.pack(rounded)
    exact = layer.wide()
    for found in layer.wide_bfloat16(), by_torch(layer.wide_bfloat16):
        assert ((found.float() - exact).abs() <= exact.abs() / 256).all() and found.dtype == torch.bfloat16


def test_int4_finds_the_numbers_of_a_gguf_file_again():
    numbers = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
    stored = torch.from_numpy(dequantize(quantize(numbers, GGMLQuantizationType.Q4_1),
                                         GGMLQuantizationType.Q4_1))
    layer = Linear(64, 32, bias=False).requires_grad_(False)
    layer.weight.copy_(stored)
    layer.pack(torch.int4)
    # its scale is again that of the file where a group has a 0 and a 15, as one of real numbers does
    torch.testing.assert_close(layer.state_dict()['weight'], stored, atol=1e-6, rtol=0)


@pytest.mark.parametrize('sizes', [(48, 48), (30, 64)])
def test_sizes_that_int4_does_not_divide_are_int8(sizes):
    layer = Linear(*sizes).requires_grad_(False)
    layer.pack(torch.int4)
    assert layer.weight.dtype == torch.int8


def test_a_frozen_model_in_bfloat16_multiplies_as_exactly_for_one_row_as_for_many():
    layer = linear(18).bfloat16()
    exact = layer.weight.clone()
    layer.pack()
    check_products(layer, exact, layer.bias)
    layer.unpack()
    assert torch.equal(layer.weight, exact)


def test_a_rounded_row_is_the_same_alone_in_a_batch_and_through_a_cache(narrow):
    rows = torch.tensor([PROMPT[:6], PROMPT[1:7], PROMPT[2:8]])
    alone = torch.cat([narrow(row[None])[0] for row in rows])
    torch.testing.assert_close(narrow(rows)[0], alone, atol=0.5, rtol=0.05)
    texts = narrow.generate(rows, 5, top_k=1)
    assert texts.shape == (3, 11)


def test_a_rounded_model_is_the_same_reads_its_memories_and_is_near_it(folder, narrow, tmp_path):
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
def test_a_rounded_model_can_be_copied_but_neither_trained_nor_cast(narrow, twin_of):
    before = narrow(IDX)[0]
    assert torch.equal(twin_of(narrow)(IDX)[0], before)
    for wrong in (narrow.unfreeze, narrow.float):
        with pytest.raises(ValueError, match=r'rounded to int\d when the model was loaded: load it again'):
            wrong()
    assert torch.equal(narrow(IDX)[0], before)


def test_a_model_is_rounded_once_and_to_what_there_is(folder, narrow):
    with pytest.raises(ValueError, match='rounded is torch.bfloat16, expected one of None'):
        GPT.from_pretrained(folder).unfreeze().freeze(torch.bfloat16)
    with pytest.raises(ValueError, match='the model is frozen, rounded to torch.int.*: load it again'):
        narrow.freeze()
    assert narrow.freeze(narrow.state.rounded) is narrow


@pytest.mark.parametrize('dtype', ['int8', 'int4'])
def test_int8_and_int4_are_dtypes_of_loading_on_a_cpu(dtype, folder, monkeypatch):
    model = load_model(folder, device='cpu', dtype=dtype)[0]
    assert model.lm_head.weight.dtype == torch.int8
    assert model.transformer.h[0].mlp.c_fc.weight.dtype == (torch.int8 if dtype == 'int8' else torch.uint8)
    monkeypatch.setattr('load.pick_device', lambda device: device)
    with pytest.raises(ValueError, match=f"dtype is '{dtype}', which a CPU computes, not 'cuda'"):
        load_model(folder, device='cuda', dtype=dtype)
