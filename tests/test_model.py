"""
The plain model: Hugging Face and nanoGPT as the oracles, weights in and out.

$ python -m pytest tests/test_model.py
"""
import os
import shutil

import pytest
import torch
from conftest import PROMPT, tiny_model
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from core.sampling import races_are_known, sample
from model import GPT, Cache

SHAPES = [
    dict(n_layer=1, n_head=1, n_embd=8, vocab_size=60, n_positions=16),
    dict(n_layer=3, n_head=4, n_embd=32, vocab_size=77, n_positions=40, n_inner=48),
    dict(n_layer=2, n_head=2, n_embd=12, vocab_size=64, n_positions=20, activation_function='gelu', layer_norm_epsilon=1e-3),
]
IDX = torch.tensor([PROMPT, PROMPT[::-1]])


def hugging_face(**sizes):
    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)).eval()
    with torch.no_grad():
        for p in hf.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    return hf


@pytest.mark.parametrize('sizes', SHAPES)
def test_logits_equal_hugging_face(tmp_path, sizes):
    hf = hugging_face(**sizes)
    hf.save_pretrained(tmp_path)
    model = GPT.from_pretrained(str(tmp_path))
    expected = hf(IDX).logits
    torch.testing.assert_close(model(IDX, targets=IDX)[0], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(model(IDX)[0], expected[:, -1:], atol=1e-4, rtol=0)


@pytest.mark.parametrize('sizes', SHAPES)
def test_saved_weights_load_in_hugging_face_and_come_back_equal(tmp_path, sizes):
    hf = hugging_face(**sizes)
    hf.save_pretrained(tmp_path / 'a')
    model = GPT.from_pretrained(str(tmp_path / 'a'))
    model.save_pretrained(tmp_path / 'b')
    for name, tensor in GPT2LMHeadModel.from_pretrained(tmp_path / 'b').state_dict().items():
        assert torch.equal(tensor, hf.state_dict()[name])
    again = GPT.from_pretrained(str(tmp_path / 'b'))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert again.config == model.config.__class__(**{**vars(model.config), 'name': 'b'})


def test_a_model_without_biases_is_written_with_zero_biases(tmp_path):
    model = tiny_model(bias=False)
    model.save_pretrained(tmp_path)
    expected = GPT2LMHeadModel.from_pretrained(tmp_path)(IDX).logits
    torch.testing.assert_close(model(IDX, targets=IDX)[0], expected, atol=1e-4, rtol=1e-4)


def test_the_loss_is_the_mean_cross_entropy_of_the_targets_that_count(model):
    targets = IDX.roll(-1, dims=1)
    targets[:, -1] = -1
    logits, loss = model(IDX, targets)
    expected = F.cross_entropy(logits[:, :-1].reshape(-1, 48), targets[:, :-1].reshape(-1))
    torch.testing.assert_close(loss, expected)


def nanogpt_checkpoint(model, path, prefix=''):
    args = {name: getattr(model.config, name) for name in ('n_layer', 'n_head', 'n_embd', 'block_size', 'bias', 'vocab_size', 'dropout')}
    weights = {prefix + name: w for name, w in model.state_dict().items()}
    weights[prefix + 'transformer.h.0.attn.bias'] = torch.ones(1, 1, 32, 32).tril()  # as versions without flash attention keep
    torch.save({'model': weights, 'model_args': args, 'config': {'dataset': 'none'}, 'iter_num': 1, 'best_val_loss': 1.0}, path)


@pytest.mark.parametrize('prefix', ['', '_orig_mod.'])
def test_a_nanogpt_checkpoint_loads_with_its_exact_gelu(tmp_path, prefix):
    model = tiny_model(activation='gelu', bias=False)
    nanogpt_checkpoint(model, tmp_path / 'ckpt.pt', prefix)
    assert torch.equal(GPT.from_checkpoint(tmp_path / 'ckpt.pt')(IDX)[0], model.freeze()(IDX)[0])


@pytest.mark.parametrize('content', [
    [], {'model': [], 'model_args': {}}, {'model': {}, 'model_args': []}, {'model': {3: 4}, 'model_args': {'n_layer': 1}},
    {'model': {}, 'model_args': {'n_head': 0}}, {'model': {}, 'model_args': {'colour': 'red'}}])
def test_a_checkpoint_of_another_kind_is_refused(tmp_path, content):
    torch.save(content, tmp_path / 'ckpt.pt')
    with pytest.raises(ValueError, match='ckpt.pt|not a multiple'):
        GPT.from_checkpoint(tmp_path / 'ckpt.pt')


def test_weights_that_the_config_has_no_place_for_are_refused(tmp_path):
    hugging_face(**SHAPES[1]).save_pretrained(tmp_path)
    config = (tmp_path / 'config.json').read_text()
    (tmp_path / 'config.json').write_text(config.replace('"n_layer": 3', '"n_layer": 2'))
    with pytest.raises(ValueError, match=r'nothing there takes transformer\.h\.2'):
        GPT.from_pretrained(str(tmp_path))


def test_a_disk_that_takes_no_more_leaves_the_old_weights(tmp_path):
    resource = pytest.importorskip('resource', reason='file size limits are a Unix thing')
    tiny_model().save_pretrained(tmp_path)
    before = {file: (tmp_path / file).read_bytes() for file in os.listdir(tmp_path)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(OSError, match='could not be written to'):
            tiny_model(seed=1).save_pretrained(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {file: (tmp_path / file).read_bytes() for file in os.listdir(tmp_path)} == before


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    torch.save({'model': {}, 'model_args': print}, tmp_path / 'ckpt.pt')
    with pytest.raises(ValueError, match='damaged or no checkpoint'):
        GPT.from_checkpoint(tmp_path / 'ckpt.pt')


def test_a_model_in_the_hubs_cache_loads_by_its_name_without_a_network(tmp_path, monkeypatch):
    hf = hugging_face(**SHAPES[0])
    repository = tmp_path / 'models--gpt2-of-mine'
    hf.save_pretrained(repository / 'snapshots' / 'abc')
    (repository / 'refs').mkdir()
    (repository / 'refs' / 'main').write_text('abc')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    model = GPT.from_pretrained('gpt2-of-mine')
    assert model.config.name == 'gpt2-of-mine'
    torch.testing.assert_close(model(IDX)[0], hf(IDX).logits[:, -1:], atol=1e-4, rtol=0)


def test_a_hub_model_with_a_tokenizer_of_its_own_gets_that_one(tmp_path, monkeypatch):
    from conftest import ROOT

    from load import load_model
    repository = tmp_path / 'models--someone--gpt2-of-mine'
    hugging_face(**SHAPES[0]).save_pretrained(repository / 'snapshots' / 'abc')
    shutil.copy(os.path.join(ROOT, 'assets', 'tinyworld', 'tokenizer.json'), repository / 'snapshots' / 'abc')
    (repository / 'refs').mkdir()
    (repository / 'refs' / 'main').write_text('abc')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    assert load_model('someone/gpt2-of-mine')[1].encode('\n') == [198]


def test_a_folder_with_a_missing_or_cut_weights_file_is_refused(tmp_path):
    hf = hugging_face(**SHAPES[1])
    weights = {name: tensor for name, tensor in hf.state_dict().items() if name not in ('lm_head.weight', 'transformer.h.1.ln_1.bias')}
    hf.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ValueError, match=r'incomplete: transformer\.h\.1\.ln_1\.bias is missing'):
        GPT.from_pretrained(str(tmp_path))
    file = tmp_path / 'model.safetensors'
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match='could not be loaded'):
        GPT.from_pretrained(str(tmp_path))


def test_another_architecture_or_an_unknown_variant_is_refused_by_name(tmp_path):
    (tmp_path / 'config.json').write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="'bert' model, expected GPT-2"):
        GPT.from_pretrained(str(tmp_path))
    GPT2LMHeadModel(GPT2Config(**SHAPES[0], scale_attn_by_inverse_layer_idx=True)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='scale_attn_by_inverse_layer_idx=True'):
        GPT.from_pretrained(str(tmp_path))


def nanogpt_generate(model, idx, n, temperature, top_k, seed):
    """nanoGPT's loop as it is documented: no cache, the global generator, the context cropped from the left."""
    torch.manual_seed(seed)
    for _ in range(n):
        with torch.no_grad():
            logits = model(idx[:, -model.config.block_size:])[0][:, -1] / temperature
        if top_k is not None:
            logits[logits < logits.topk(min(top_k, logits.size(-1))).values[:, [-1]]] = -float('inf')
        idx = torch.cat((idx, torch.multinomial(F.softmax(logits, dim=-1), 1)), dim=1)
    return idx


@pytest.mark.parametrize(('temperature', 'top_k'), [(0.8, 20), (1.0, None), (1.3, 500)])
def test_each_seed_draws_what_nanogpt_draws_alone_even_past_the_context(model, temperature, top_k):
    seeds = [1337, 2658, 8932]
    texts = model.generate(torch.tensor([PROMPT] * 3), 30, temperature, top_k, seeds)  # 42 tokens, the context is 32
    for seed, text in zip(seeds, texts, strict=True):
        assert nanogpt_generate(model, torch.tensor([PROMPT]), 30, temperature, top_k, seed)[0].tolist() == text.tolist()


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
    (lambda m: m(torch.zeros(1, 33, dtype=torch.long)), '33 tokens are longer than the model\'s context of 32'),
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
    if dtype == torch.float32 and torch.backends.mkldnn.is_available():
        assert model.lm_head.weight.is_mkldnn, 'or the fast path is not what is tested'
    assert (model.fingerprint(), model.get_num_params()) == (fingerprint, parameters)
    for T in (1, 2, IDX.size(1)):
        close = {'atol': 1e-4, 'rtol': 1e-4} if dtype == torch.float32 else {'atol': 0.5, 'rtol': 0.05}
        torch.testing.assert_close(model(IDX[:, :T])[0], tiny_model().to(dtype)(IDX[:, :T])[0], **close)
    model.save_pretrained(tmp_path)
    again = GPT.from_pretrained(str(tmp_path)).unfreeze()
    assert (again.fingerprint() == fingerprint) == (dtype == torch.float32)  # rounded weights are another model's
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
    assert [torch.rand(1, generator=g).item() for g in ours] == [torch.rand(1, generator=g).item() for g in theirs]
    with pytest.raises(ValueError, match='not finite'):
        sample(torch.full((1, 5), float('nan')), 1.0, top_k, ours[:1])
