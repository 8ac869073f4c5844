"""
Llama's family written in Hugging Face's format: transformers reads it as the same model, and so do we; what
that format cannot hold is refused by name.

$ python -m pytest tests/test_saving.py
"""
import json
import os

import pytest
import torch
from conftest import tiny_model
from test_families import VARIANTS, hugging_face, ours
from test_gguf import opened, written
from transformers import AutoModelForCausalLM

from model import GPT, GPTConfig

IDX = torch.randint(96, (2, 60), generator=torch.Generator().manual_seed(1))
CLASSES = {'llama': 'LlamaForCausalLM', 'mistral': 'LlamaForCausalLM', 'qwen2': 'Qwen2ForCausalLM',
           'qwen3': 'Qwen3ForCausalLM'}


def same_but_for_the_name(model, other):
    return vars(model.config) == {**vars(other.config), 'name': model.config.name}


@pytest.mark.parametrize('variant', VARIANTS)
def test_what_is_saved_is_the_same_model_to_transformers_and_to_us(variant, tmp_path):
    hf = hugging_face(**VARIANTS[variant])
    model = ours(hf)
    model.save_pretrained(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['config.json', 'model.safetensors']
    found = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(found).__name__ == CLASSES[hf.config.model_type] and found.dtype == torch.float32
    assert found.config.eos_token_id is None, 'no text ends where the model did not say so'
    with torch.no_grad():
        assert torch.equal(found(IDX).logits, hf(IDX).logits)
    again = GPT.from_pretrained(str(tmp_path))
    assert again.fingerprint() == model.fingerprint() and same_but_for_the_name(model, again)
    assert torch.equal(again(IDX, targets=IDX)[0], model(IDX, targets=IDX)[0])


@pytest.mark.parametrize('model_type', ['llama', 'qwen2', 'qwen3'])
def test_saved_in_bfloat16_every_number_is_the_nearest(model_type, tmp_path):
    model = ours(hugging_face(model_type=model_type))
    model.save_pretrained(tmp_path, torch.bfloat16)
    assert json.loads((tmp_path / 'config.json').read_text())['dtype'] == 'bfloat16'
    found = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert found.dtype == torch.bfloat16
    rounded = {name: w.bfloat16().float() for name, w in model.state_dict().items()}
    state = GPT.from_pretrained(str(tmp_path)).state_dict()
    assert all(torch.equal(state[name], w) for name, w in rounded.items())
    assert torch.equal(found.get_input_embeddings().weight.float(), rounded['transformer.wte.weight'])


@pytest.mark.parametrize('tied', [False, True])
def test_a_model_that_was_trained_on_is_saved_as_it_is_by_then(tied, tmp_path):
    model = ours(hugging_face(model_type='qwen2', tie_word_embeddings=tied)).unfreeze().train()
    before = model.fingerprint()
    model(IDX, targets=IDX)[1].backward()
    torch.optim.SGD(model.parameters(), lr=1e-2).step()
    model.eval().save_pretrained(tmp_path)
    again = GPT.from_pretrained(str(tmp_path))
    assert again.fingerprint() == model.fingerprint() != before
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(tmp_path)(IDX).logits
        torch.testing.assert_close(model(IDX, targets=IDX)[0], expected, atol=1e-4, rtol=0)


def test_a_gguf_file_becomes_a_folder_of_the_same_model(tmp_path):
    hf, path = written(tmp_path / 'tiny.gguf', head_dim=16)
    model = opened(path)
    model.save_pretrained(tmp_path / 'folder')
    found = AutoModelForCausalLM.from_pretrained(tmp_path / 'folder').state_dict()
    assert all(torch.equal(found[name], w) for name, w in hf.state_dict().items())
    assert GPT.from_pretrained(str(tmp_path / 'folder')).fingerprint() == model.fingerprint()


def rotary(**fields):
    sizes = dict(block_size=32, vocab_size=48, n_layer=1, n_head=2, n_embd=16, mlp='silu', norm='rms',
                 position='rotary', bias=False, name='mine')
    return GPT(GPTConfig(**{**sizes, **fields}))


def with_infinity():
    model = rotary()
    model.state_dict()['transformer.h.0.mlp.c_proj.weight'][0, 0] = float('inf')
    return model


UNKEPT = {
    'a table of rotary factors': (lambda: rotary(rope_factors=(1.0, 2.0, 4.0, 8.0)), 'rope_factors=(1.0'),
    'a bias of the projection alone': (lambda: rotary(bias_proj=True), 'bias_attn=False'),
    'biases of a qwen3 MLP': (lambda: rotary(qk_norm=True, bias_mlp=True), 'bias_mlp=True'),
    'biases of a qwen2 MLP': (lambda: rotary(bias_attn=True, bias_mlp=True), 'bias_mlp=True'),
    'a width that heads do not divide': (lambda: rotary(n_embd=18, n_head=4, n_kv_head=2, head_size=4),
                                         'hidden size (18)'),
    'biases of everything': (lambda: rotary(bias=True), 'bias=True'),
    'layer norms under rotary positions': (lambda: rotary(norm='layer'), "norm='layer'"),
    'a GELU under rotary positions': (lambda: rotary(mlp='gelu'), "mlp='gelu'"),
    'a GPT-2 with a head of its own': (lambda: tiny_model(tied=False), 'tied=False'),
    'a GPT-2 with few key heads': (lambda: tiny_model(n_kv_head=1), 'n_kv_head=1'),
    'a GPT-2 of wide heads': (lambda: tiny_model(head_size=12), 'head_size=12'),
    'a GPT-2 with norms of queries': (lambda: tiny_model(qk_norm=True), 'qk_norm=True'),
    'a number that is none': (with_infinity, 'model.layers.0.mlp.down_proj.weight'),
}


@pytest.mark.parametrize('case', UNKEPT)
def test_what_the_format_does_not_hold_is_refused_by_name_and_nothing_is_written(case, tmp_path):
    model, named = UNKEPT[case]
    with pytest.raises(ValueError) as error:
        model().save_pretrained(tmp_path / 'folder')
    assert named in str(error.value) and '\n' not in str(error.value) and len(str(error.value)) < 300
    assert not os.path.exists(tmp_path / 'folder')


def test_the_width_of_an_mlp_that_a_config_leaves_to_the_default_is_written(tmp_path):
    model, ids = rotary().eval(), IDX[:, :32] % 48
    model.save_pretrained(tmp_path)
    again = GPT.from_pretrained(str(tmp_path))
    torch.testing.assert_close(again(ids, ids)[0], model(ids, ids)[0])
    assert again.config.n_inner == 64
