"""
The compiled layers: what torch computes, for few rows, in each dtype; and what happens without a compiler.

$ python -m pytest tests/test_compiled.py
"""
import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import PROMPT, REMEMBERED, ROOT, tiny_model
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from test_families import VARIANTS, hugging_face, ours
from torch.nn import functional as F

from core import kernel
from core.cache import Cache
from core.packed import Linear
from memory import PersistentMemory
from model import GPT

pytestmark = pytest.mark.skipif(kernel.library() is None, reason='no C++ compiler is here')


@pytest.fixture(params=['gpt2', *VARIANTS])
def model(request):
    return a_model(request.param)


def a_model(name):
    if name == 'gpt2':
        return tiny_model(vocab_size=96, n_embd=32, block_size=600).freeze()
    return ours(hugging_face(**VARIANTS[name]), max_position_embeddings=600)


def logits_of(model, idx, T):
    """(B, T', vocab_size) of the tokens from T on, given one after the other."""
    cache = Cache(idx.size(1))
    with torch.inference_mode():
        model(idx[:, :T], cache=cache)
        return torch.cat([model(one, cache=cache)[0] for one in idx[:, T:].split(1, dim=1)], dim=1)


def some_ids(B, T):
    return torch.randint(96, (B, T), generator=torch.Generator().manual_seed(1))


# the second ones cross what one thread attends to at once
@pytest.mark.parametrize(('B', 'T', 'end'), [(1, 1, 9), (3, 250, 262), (kernel.MOST_ROWS, 2, 5)])
def test_a_step_gives_the_logits_of_torch_and_those_of_the_whole_text(model, B, T, end, by_torch, steps):
    idx = some_ids(B, end)
    found = logits_of(model, idx, T)
    assert len(steps) == end - T
    expected = by_torch(lambda: logits_of(model, idx, T))
    assert len(steps) == end - T and expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found, model(idx, targets=idx)[0][:, T:], atol=1e-4, rtol=1e-4)


def test_texts_are_the_same_with_any_number_of_threads(model):
    idx, before = some_ids(2, 300), torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(logits_of(model, idx[:, 290:], 1))
            with torch.inference_mode():
                x = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
                found[-1] = found[-1], kernel.linear(model.transformer.h[0].mlp.c_fc, x)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for some in zip(*found) for a, b in zip(some, some[1:]))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.int8, torch.int4])
def test_rounded_weights_give_the_logits_of_the_numbers_that_they_stand_for(dtype, folder, by_torch, steps):
    narrow = GPT.from_pretrained(folder, dtype=dtype)
    idx = torch.tensor([PROMPT, PROMPT[::-1]])
    found = logits_of(narrow, idx, 2).float()
    assert len(steps) == len(PROMPT) - 2
    expected = by_torch(lambda: logits_of(narrow, idx, 2)).float()
    # torch rounds to bfloat16 between, int4 its inputs to eight bits
    assert torch.cosine_similarity(found, expected, dim=-1).min() > 0.999


@pytest.mark.parametrize(('inputs', 'outputs'), [(1, 1), (7, 5), (32, 48), (40, 3), (96, 64), (576, 33)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_products_are_exact_for_any_sizes(inputs, outputs, dtype):
    torch.manual_seed(0)
    layer = Linear(inputs, outputs, dtype=dtype).requires_grad_(False)
    layer.weight = torch.nn.Parameter(layer.weight.T.contiguous().T, requires_grad=False)  # as GPT-2's files
    layer.pack()
    for R in (1, 2, 3, 4, 5, 9, kernel.MOST_ROWS):
        x = torch.randn(R, inputs, dtype=dtype)
        expected = F.linear(x.double(), layer.weight.double(), layer.bias.double())
        torch.testing.assert_close(kernel.linear(layer, x).double(), expected, atol=1e-5, rtol=1e-5)


def test_what_needs_another_way_goes_to_torch(folder, steps):
    model = GPT.from_pretrained(folder)
    idx = torch.tensor([PROMPT])
    logits_of(model, idx.expand(kernel.MOST_ROWS + 1, -1), 4)  # too many rows
    logits_of(model.unfreeze(), idx, 4)  # may be trained
    model.freeze()
    cache = Cache(20)
    with torch.inference_mode():
        model(idx[:, :3], cache=cache)
        model(idx[:, 3:5], cache=cache)  # two tokens
        model(idx[:, 5:6], cache=cache, pos=torch.tensor([[2]]))  # a position of its own
    assert not steps
    model(idx[:, 6:7], cache=cache)
    assert len(steps) == 1


def test_a_cache_that_is_not_this_calls_is_torchs_to_refuse(folder, steps):
    model, idx = GPT.from_pretrained(folder), torch.tensor([PROMPT])
    cache = Cache(12)
    with torch.inference_mode():
        model(idx[:, :4], cache=cache)
        for n in 0, 1:  # before a step, and behind one
            with pytest.raises(RuntimeError):
                model(idx[:, 4:5].expand(3, -1), cache=cache)  # three rows go on where one was
            assert len(steps) == n
            model(idx[:, 4:5], cache=cache)


def test_a_cache_that_says_it_has_room_which_its_rows_have_not_is_torchs_to_refuse(folder, steps):
    model, idx = GPT.from_pretrained(folder), torch.tensor([PROMPT])
    cache = Cache(6)
    with torch.inference_mode():
        model(idx[:, :4], cache=cache)
        model(idx[:, 4:5], cache=cache)
        cache.size += 5
        model(idx[:, 5:6], cache=cache)
        with pytest.raises(RuntimeError):
            model(idx[:, 6:7], cache=cache)
    assert len(steps) == 2


def test_a_cache_that_is_copied_goes_on_by_itself_and_one_that_begins_anew_keeps_no_rows(folder, steps):
    model, idx = GPT.from_pretrained(folder), torch.tensor([PROMPT])
    cache = Cache(12)
    with torch.inference_mode():
        model(idx[:, :4], cache=cache)
        model(idx[:, 4:5], cache=cache)
        twin = copy.deepcopy(cache)
        model(idx[:, 9:10], cache=twin)
        found = model(idx[:, 5:6], cache=cache)[0]
    torch.testing.assert_close(found, model(idx[:, :6])[0], atol=1e-4, rtol=1e-4)
    assert len(steps) == 3 and cache.places is not None
    cache.restart()
    assert cache.places is None


@pytest.mark.parametrize('change', [
    lambda block: setattr(block.mlp.c_fc, 'weight', torch.nn.Parameter(2 * block.mlp.c_fc.weight)),
    lambda block: setattr(block.mlp, 'c_fc', copy.deepcopy(block.mlp.c_fc).requires_grad_(False)),
    lambda block: setattr(block.ln_2, 'weight', torch.nn.Parameter(2 * block.ln_2.weight)),
    lambda block: setattr(block.attn.c_proj, 'bias', torch.nn.Parameter(torch.ones(32))),
    lambda block: setattr(block.mlp, 'forward', lambda x: 2 * x)])
def test_a_part_that_somebody_replaced_is_what_computes(change, folder, steps):
    model, idx = GPT.from_pretrained(folder), torch.tensor([PROMPT])
    logits_of(model, idx, 4)
    done = len(steps)
    change(model.transformer.h[0])
    found = logits_of(model, idx, 4)
    assert len(steps) == done
    torch.testing.assert_close(found, model(idx, targets=idx)[0][:, 4:], atol=1e-4, rtol=1e-4)


def test_gradients_go_through_torch(folder, steps, by_torch):
    model, idx = GPT.from_pretrained(folder), torch.tensor([PROMPT])

    def gradient():
        cache = Cache(12)
        with torch.no_grad():
            model(idx[:, :4], cache=cache)
        added = torch.zeros(1, 1, model.config.n_embd, requires_grad=True)
        handle = model.transformer.wte.register_forward_hook(lambda module, given, x: x + added)
        model(idx[:, 4:5], cache=cache)[0][0, 0, 3].backward()
        handle.remove()
        return added.grad
    found = gradient()
    assert not steps and found.abs().max() > 0
    torch.testing.assert_close(found, by_torch(gradient), atol=1e-5, rtol=1e-4)


def test_what_a_hook_on_the_embedding_kept_is_not_written_over(folder, steps):
    model, kept, idx = GPT.from_pretrained(folder), [], torch.tensor([PROMPT])
    drop = model.transformer.drop
    handle = drop.register_forward_hook(lambda module, given, x: kept.append((x, x.clone())))
    logits_of(model, idx, 4)
    handle.remove()
    assert steps and all(torch.equal(x, as_it_was) for x, as_it_was in kept)


def test_torchs_default_dtype_changes_nothing(folder):
    model, idx = GPT.from_pretrained(folder), torch.tensor([PROMPT])
    model.attach_memory(PersistentMemory.from_tokens(model, REMEMBERED, (0,)), (0,), memory_fraction=5.0,
                        select='each')
    before = logits_of(model, idx, 4)
    torch.set_default_dtype(torch.float64)
    try:
        found = logits_of(model, idx, 4)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, before, atol=1e-6, rtol=0)


def test_products_of_no_rows_and_of_one_without_a_batch():
    layer = Linear(32, 48).requires_grad_(False)
    layer.pack()
    assert layer(torch.zeros(0, 3, 32)).shape == (0, 3, 48)
    x = torch.randn(32)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-5, rtol=1e-5)


def test_a_damaged_file_in_the_cache_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    path = kernel.compile_once()
    whole = os.path.getsize(path)
    os.truncate(path, 1000)
    assert os.path.getsize(kernel.compile_once()) == whole
    assert len(os.listdir(tmp_path / 'persistent-memory')) == 1


def test_nothing_is_loaded_from_a_folder_that_others_can_write_to(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    (tmp_path / 'persistent-memory').mkdir()
    (tmp_path / 'persistent-memory').chmod(0o777)
    assert str(tmp_path) not in kernel.cache_folder()


@pytest.mark.parametrize('name', ['h.0', 'h.0.attn.c_proj', 'h.0.mlp', 'ln_f'])
def test_a_hook_on_a_part_of_a_layer_sees_each_token_and_changes_it(name, folder, steps):
    model, idx = GPT.from_pretrained(folder), torch.tensor([PROMPT])
    before = logits_of(model, idx, 4)
    done, seen = len(steps), []
    module = model.transformer.get_submodule(name)
    handle = module.register_forward_hook(lambda module, given, y: seen.append(y.size(1)) or 2 * y)
    changed = logits_of(model, idx, 4)
    handle.remove()
    assert seen[1:] == [1] * (len(PROMPT) - 4) and len(steps) == done
    assert not torch.allclose(changed, before, atol=1e-2)
    assert torch.equal(logits_of(model, idx, 4), before)


def test_a_model_that_was_changed_between_computes_with_its_new_weights(folder):
    model, idx = GPT.from_pretrained(folder), torch.tensor([PROMPT])
    before = logits_of(model, idx, 4)
    model.unfreeze()
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight.mul_(2)
    model.freeze()
    after = logits_of(model, idx, 4)
    assert not torch.allclose(after, before, atol=1e-3)
    torch.testing.assert_close(after, model(idx, targets=idx)[0][:, 4:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('twin_of', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_model_that_has_written_computes_the_same_without_it(twin_of, folder):
    model, idx = GPT.from_pretrained(folder), torch.tensor([PROMPT])
    before = logits_of(model, idx, 4)
    twin = twin_of(model)
    del model
    torch.testing.assert_close(logits_of(twin, idx, 4), before, atol=0, rtol=0)


@pytest.mark.parametrize('compiler', ['no-such-compiler', 'false'])
def test_without_a_compiler_torch_computes_and_one_line_says_so(compiler, tmp_path):
    code = ("from load import load_model; import torch; m = load_model('assets/tinyworld', device='cpu')[0];"
            "print(m.generate(torch.tensor([[1, 2, 3]]), 5, top_k=1).shape)")
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                          env={'PATH': '/usr/bin:/bin', 'CXX': compiler, 'HOME': str(tmp_path),
                               'OMP_NUM_THREADS': '1'})
    assert done.stdout == 'torch.Size([1, 8])\n'
    assert done.stderr.count('\n') == 1 and 'install g++' in done.stderr


def test_what_is_compiled_is_kept_or_where_that_cannot_be_lasts_as_long_as_the_process(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    path = kernel.compile_once()
    assert str(tmp_path) in path
    monkeypatch.setattr(kernel.subprocess, 'run', None)  # not asked again
    assert kernel.compile_once() == path
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))  # no folder can be there
    assert str(tmp_path) not in kernel.cache_folder()


@pytest.mark.parametrize('kind', [GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q8_0])
def test_numbers_of_a_gguf_file_are_to_the_bit_those_of_its_package(kind):
    numbers = np.random.default_rng(0).standard_normal((6, 96)).astype(np.float32)
    blocks = np.ascontiguousarray(quantize(numbers, kind)).reshape(-1)
    expected = dequantize(blocks.reshape(6, -1), kind)
    assert np.array_equal(kernel.of_gguf(blocks, kind.name).view(6, 96).numpy(), expected)
    assert kernel.of_gguf(blocks, 'Q5_0') is None, 'left to the package'
