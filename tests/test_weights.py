"""
Weights in and out, Hugging Face and nanoGPT as the oracles: what is read is whole, or is refused by name.

$ python -m pytest tests/test_weights.py
"""
import json
import os
import shutil

import huggingface_hub
import pytest
import torch
from conftest import PROMPT, tiny_model
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2DoubleHeadsModel, GPT2ForSequenceClassification, GPT2LMHeadModel

from core import weights
from model import GPT

SHAPES = [
    dict(n_layer=1, n_head=1, n_embd=8, vocab_size=60, n_positions=16),
    dict(n_layer=3, n_head=4, n_embd=32, vocab_size=77, n_positions=40, n_inner=48),
    dict(n_layer=2, n_head=2, n_embd=12, vocab_size=64, n_positions=20, activation_function='gelu',
         layer_norm_epsilon=1e-3),
]
IDX = torch.tensor([PROMPT, PROMPT[::-1]])


def hugging_face(**sizes):
    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)).eval()
    with torch.no_grad():
        for p in hf.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    return hf


@pytest.fixture
def saved(tmp_path):
    """A folder with a small model in it, to be spoilt."""
    hugging_face(**SHAPES[1]).save_pretrained(tmp_path / 'm')
    return tmp_path / 'm'


def rewrite(folder, change):
    """The weights of a folder, written again after change(weights)."""
    tensors = load_file(folder / 'model.safetensors')
    save_file(change(tensors), folder / 'model.safetensors', {'format': 'pt'})


def refusal(source):
    """The one line with which a source is refused."""
    with pytest.raises((ValueError, OSError)) as error:
        GPT.from_pretrained(str(source))
    assert '\n' not in str(error.value)
    return str(error.value)


# ---- what is read equals Hugging Face's ----

@pytest.mark.parametrize('sizes', SHAPES)
def test_logits_equal_hugging_face(tmp_path, sizes):
    hf = hugging_face(**sizes)
    hf.save_pretrained(tmp_path)
    model = GPT.from_pretrained(str(tmp_path))
    expected = hf(IDX).logits
    torch.testing.assert_close(model(IDX, targets=IDX)[0], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(model(IDX)[0], expected[:, -1:], atol=1e-4, rtol=0)


def in_shards(hf, folder):
    hf.save_pretrained(folder, max_shard_size=20000)
    assert 'model.safetensors.index.json' in os.listdir(folder)


def as_pickle(hf, folder):
    hf.config.save_pretrained(folder)
    # with its head, and under masks of old versions
    torch.save(hf.state_dict(), folder / 'pytorch_model.bin')


def as_pickle_in_parts(hf, folder):
    hf.config.save_pretrained(folder)
    names = sorted(hf.state_dict())
    places = {name: f'pytorch_model-0000{1 + i % 2}-of-00002.bin' for i, name in enumerate(names)}
    for place in set(places.values()):
        torch.save({name: hf.state_dict()[name] for name in names if places[name] == place}, folder / place)
    (folder / 'pytorch_model.bin.index.json').write_text(json.dumps({'metadata': {}, 'weight_map': places}))


def as_openai_named_them(hf, folder):
    hf.config.save_pretrained(folder)
    tensors = {name.removeprefix('transformer.'): w.contiguous() for name, w in hf.state_dict().items()
               if 'lm_head' not in name}
    masks = {'h.0.attn.bias': torch.ones(1, 1, 40, 40).tril(), 'h.1.attn.masked_bias': torch.tensor(-1e4)}
    save_file(tensors | masks, folder / 'model.safetensors', {'format': 'pt'})


def in_double_precision(hf, folder):
    hf.double().save_pretrained(folder)
    hf.float()


@pytest.mark.parametrize('write', [in_shards, as_pickle, as_pickle_in_parts, as_openai_named_them,
                                   in_double_precision])
def test_every_way_to_keep_weights_is_read_as_hugging_face_reads_it(tmp_path, write):
    hf = hugging_face(**SHAPES[1])
    write(hf, tmp_path)
    expected = GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float32)(IDX).logits
    torch.testing.assert_close(GPT.from_pretrained(str(tmp_path))(IDX, IDX)[0], expected, atol=1e-4, rtol=0)


def test_loading_says_nothing(saved, capfd):
    config = json.loads((saved / 'config.json').read_text())
    # transformers warns of that
    (saved / 'config.json').write_text(json.dumps({**config, 'bos_token_id': 50256}))
    GPT.from_pretrained(str(saved))
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('sizes', SHAPES)
def test_saved_weights_load_in_hugging_face_and_come_back_equal(tmp_path, sizes):
    hf = hugging_face(**sizes)
    hf.save_pretrained(tmp_path / 'a')
    model = GPT.from_pretrained(str(tmp_path / 'a'))
    model.save_pretrained(tmp_path / 'b')
    for name, tensor in GPT2LMHeadModel.from_pretrained(tmp_path / 'b').state_dict().items():
        assert torch.equal(tensor, hf.state_dict()[name])
    again = GPT.from_pretrained(str(tmp_path / 'b'))
    weights_again = again.state_dict()
    assert all(torch.equal(w, weights_again[name]) for name, w in model.state_dict().items())
    assert again.config == model.config.__class__(**{**vars(model.config), 'name': 'b'})


def test_a_model_without_biases_is_written_with_zero_biases(tmp_path):
    model = tiny_model(bias=False)
    model.save_pretrained(tmp_path)
    expected = GPT2LMHeadModel.from_pretrained(tmp_path)(IDX).logits
    torch.testing.assert_close(model(IDX, targets=IDX)[0], expected, atol=1e-4, rtol=1e-4)


def test_a_weight_too_large_for_half_precision_is_not_written_as_infinite(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = 1e5
    with pytest.raises(ValueError, match=r'transformer\.h\.1\.mlp\.c_fc\.weight .* float16'):
        model.save_pretrained(tmp_path / 'm', dtype=torch.float16)
    assert not os.path.exists(tmp_path / 'm')


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


# ---- folders that are refused, and why ----

def test_a_folder_with_a_missing_weight_is_refused(tmp_path):
    hf = hugging_face(**SHAPES[1])
    left_out = 'lm_head.weight', 'transformer.h.1.ln_1.bias'
    kept = {name: w for name, w in hf.state_dict().items() if name not in left_out}
    hf.save_pretrained(tmp_path, state_dict=kept)
    assert 'incomplete: transformer.h.1.ln_1.bias is missing' in refusal(tmp_path)


@pytest.mark.parametrize('size', [1000, 4, 0])
def test_a_cut_or_empty_weights_file_is_refused(saved, size):
    content = (saved / 'model.safetensors').read_bytes()
    (saved / 'model.safetensors').write_bytes(content[:size])
    message = refusal(saved)
    assert 'model.safetensors is ' in message
    assert 'fetch or save it again' in message


def set_config(folder, **fields):
    config = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps({**config, **fields}))


@pytest.mark.parametrize(('fields', 'message'), [
    ({'n_layer': 2}, 'nothing there takes transformer.h.2'),
    ({'n_layer': 4}, 'incomplete: transformer.h.3'),
    ({'vocab_size': 57}, 'is 57: transformer.wte.weight has the shape (77, 32), expected (57, 32)'),
    ({'n_positions': 41}, 'where n_positions is 41: transformer.wpe.weight'),
    ({'n_inner': 50}, 'where n_inner is 50: transformer.h.0.mlp.c_fc.weight'),
    ({'n_embd': 64}, 'where n_embd is 64'),
    ({'n_head': 5}, 'not a multiple of n_head 5'),
    ({'n_layer': '3'}, 'is not GPT-2\'s'),
    ({'n_layer': 0}, 'n_layer is 0 in config.json'),
    ({'model_type': 'bert'}, "'bert' model, expected 'gpt2' or one of 'llama'"),
    ({'scale_attn_by_inverse_layer_idx': True}, 'scale_attn_by_inverse_layer_idx=True'),
    ({'scale_attn_weights': False}, 'scale_attn_weights=False'),
    ({'add_cross_attention': True}, 'add_cross_attention=True'),
    ({'tie_word_embeddings': False}, 'tie_word_embeddings=False'),
    ({'activation_function': 'relu'}, "activation 'relu'"),
    ({'quantization_config': {'quant_method': 'gptq'}}, 'quantization_config'),
    ({'auto_map': {'AutoModelForCausalLM': 'mine.Mine'}}, 'auto_map'),
])
def test_a_config_that_is_not_of_the_weights_or_not_computed_is_named(saved, fields, message):
    set_config(saved, **fields)
    assert message in refusal(saved)


def test_a_config_of_the_oldest_kind_says_nothing_of_its_type(saved):
    config = json.loads((saved / 'config.json').read_text())
    del config['model_type']
    (saved / 'config.json').write_text(json.dumps(config))
    assert GPT.from_pretrained(str(saved)).config.n_layer == 3


@pytest.mark.parametrize('content', ['', '{', '[]'])
def test_a_config_that_is_none_is_refused(saved, content):
    (saved / 'config.json').write_text(content)
    assert 'config.json' in refusal(saved)


@pytest.mark.parametrize('prefix', ['model.', 'module.', '_orig_mod.', 'base_model.model.', 'net.gpt.'])
def test_names_with_a_prefix_are_refused_with_the_way_out(saved, prefix):
    rewrite(saved, lambda tensors: {prefix + name: w for name, w in tensors.items()})
    message = refusal(saved)
    assert f"begin with {prefix!r}" in message
    assert 'removeprefix' in message


@pytest.mark.parametrize(('change', 'message'), [
    (lambda w: {**w, 'lm_head.weight': w['transformer.wte.weight'] + 1}, 'lm_head.weight'),
    (lambda w: {**w, 'lm_head.weight': torch.ones(5, 5)}, 'lm_head.weight'),
    (lambda w: {**w, 'v_head.summary.weight': torch.ones(1, 32)},
     'v_head.summary.weight, a head for another task'),
    (lambda w: {**w, 'transformer.h.0.crossattention.c_attn.weight': torch.ones(3)},
     'takes transformer.h.0.crossattention'),
    (lambda w: {**w, 'transformer.h.0.attn.c_attn.lora_A.weight': torch.ones(3)}, 'c_attn.lora_A.weight'),
    (lambda w: {'embed_tokens.weight': torch.ones(3)}, 'wte.weight is missing'),
    (lambda w: {name: x.to(torch.int8) for name, x in w.items()}, 'is in int8, expected float32'),
])
def test_weights_that_are_not_those_of_a_plain_gpt2_are_refused_by_name(saved, change, message):
    rewrite(saved, change)
    assert message in refusal(saved)


@pytest.mark.parametrize('number', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('name', ['transformer.wpe.weight', 'transformer.h.2.mlp.c_proj.bias'])
def test_numbers_that_are_none_are_refused_with_the_tensors_name(saved, name, number):
    def spoil(tensors):
        tensors[name].view(-1)[-1] = number
        return tensors

    rewrite(saved, spoil)
    message = refusal(saved)
    assert name in message
    assert 'at least 1 numbers' in message


def test_a_head_of_another_task_is_named(tmp_path):
    config = GPT2Config(**SHAPES[0], bos_token_id=None, eos_token_id=None)
    for i, kind in enumerate((GPT2DoubleHeadsModel, GPT2ForSequenceClassification)):
        kind(config).save_pretrained(tmp_path / str(i))
        assert 'a head for another task than writing' in refusal(tmp_path / str(i))


def test_what_a_folder_holds_instead_is_named_with_the_way_out(saved, tmp_path):
    def folder(name, **files):
        os.makedirs(tmp_path / name)
        for file, content in files.items():
            (tmp_path / name / file.replace('__', '.')).write_text(content)
        return tmp_path / name

    assert 'the folder is empty' in refusal(folder('empty'))
    adapter = folder('lora', adapter_config__json='{"base_model_name_or_path": "gpt2"}')
    assert "a PEFT adapter, to be added to the weights of 'gpt2': merge" in refusal(adapter)
    # beside whole weights, too: transformers would apply it
    (saved / 'adapter_config.json').write_text('{}')
    assert 'a PEFT adapter' in refusal(saved)
    os.remove(saved / 'adapter_config.json')
    run = folder('run', ckpt__pt='')
    assert f'--init_from=resume --out_dir={run}' in refusal(run)
    trainer = folder('trainer', training_args__bin='')
    for step in (500, 1000):
        shutil.copytree(saved, trainer / f'checkpoint-{step}')
    assert f'give {trainer}/checkpoint-1000' in refusal(trainer)
    alone = folder('alone', config__json=(saved / 'config.json').read_text())
    assert 'neither model.safetensors nor pytorch_model.bin: fetch one too' in refusal(alone)
    (alone / 'tf_model.h5').write_text('')
    assert 'save tf_model.h5 again' in refusal(alone)
    assert 'it holds no config.json' in refusal(folder('notes', notes__txt='x'))


def test_a_missing_part_is_named(tmp_path):
    in_shards(hugging_face(**SHAPES[1]), tmp_path)
    part = sorted(name for name in os.listdir(tmp_path) if name.startswith('model-'))[1]
    os.remove(tmp_path / part)
    assert f'{part} is missing' in refusal(tmp_path)
    (tmp_path / 'model.safetensors.index.json').write_text('{}')
    assert "no 'weight_map'" in refusal(tmp_path)


def test_a_pointer_of_git_lfs_is_not_called_damaged(saved):
    (saved / 'model.safetensors').write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\n')
    assert 'run git lfs pull' in refusal(saved)


def test_a_pickle_that_would_run_code_is_named_and_not_run(saved, tmp_path):
    class Run:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path}/ran',)

    os.remove(saved / 'model.safetensors')
    torch.save({'transformer.wte.weight': Run()}, saved / 'pytorch_model.bin')
    assert 'would run code when it is opened (it asks for posix.system)' in refusal(saved)
    assert not os.path.exists(tmp_path / 'ran')
    torch.save({'state_dict': {}, 'epoch': 3}, saved / 'pytorch_model.bin')
    assert "hold 'state_dict', which is no tensor" in refusal(saved)


@pytest.mark.parametrize('name', ['model.safetensors', 'config.json'])
def test_a_file_that_may_not_be_read_is_not_called_damaged(saved, monkeypatch, name):
    real = open

    def guarded(path, *rest, **named):  # as the system does; root, who may run this, may read everything
        if str(path).endswith(name):
            raise PermissionError(13, 'Permission denied', path)
        return real(path, *rest, **named)

    monkeypatch.setattr('builtins.open', guarded)
    with pytest.raises(PermissionError, match=f'{name} cannot be read \\(Permission denied\\)'):
        GPT.from_pretrained(str(saved))


def test_a_folder_in_place_of_a_file_is_not_called_damaged(saved):
    os.remove(saved / 'model.safetensors')
    os.makedirs(saved / 'model.safetensors')
    assert 'Is a directory' in refusal(saved)


def test_the_path_of_a_file_is_answered_with_its_folder(saved, tmp_path):
    assert f"give the folder it is in, '{saved}'" in refusal(saved / 'model.safetensors')
    (tmp_path / 'ckpt.pt').write_text('')
    assert f'--init_from=resume --out_dir={tmp_path}' in refusal(tmp_path / 'ckpt.pt')


def test_a_path_that_is_not_there_is_never_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.HfApi, 'model_info', lambda *_, **__: pytest.fail('it was asked'))
    monkeypatch.chdir(tmp_path)
    os.makedirs('models/mine')
    for path in ('./x', '../x', str(tmp_path / 'x'), '~/no-such-folder', 'a/b/c', 'models/', ''):
        if path != 'models/':
            assert 'there is no such folder' in refusal(path)
    assert "did you mean './models/mine'" in refusal('./models/mime')


def test_home_is_known(saved, monkeypatch):
    monkeypatch.setenv('HOME', str(saved.parent))
    assert GPT.from_pretrained('~/m').config.name == 'm'


# ---- nanoGPT's checkpoints ----

def nanogpt_checkpoint(model, path, prefix='', **changes):
    args = {name: getattr(model.config, name)
            for name in ('n_layer', 'n_head', 'n_embd', 'block_size', 'bias', 'vocab_size', 'dropout')}
    state = {prefix + name: w for name, w in {**model.state_dict(), **changes}.items()}
    state[prefix + 'transformer.h.0.attn.bias'] = torch.ones(1, 1, 32, 32).tril()  # as old versions keep
    torch.save({'model': state, 'model_args': args, 'config': {'dataset': 'none'}, 'iter_num': 1}, path)


@pytest.mark.parametrize('prefix', ['', '_orig_mod.'])
def test_a_nanogpt_checkpoint_loads_with_its_exact_gelu(tmp_path, prefix):
    model = tiny_model(mlp='gelu', bias=False)
    nanogpt_checkpoint(model, tmp_path / 'ckpt.pt', prefix)
    torch.testing.assert_close(GPT.from_checkpoint(tmp_path / 'ckpt.pt')(IDX)[0], model(IDX)[0], atol=1e-4,
                               rtol=1e-5)


@pytest.mark.parametrize('content', [
    [], {'model': [], 'model_args': {}}, {'model': {}, 'model_args': []},
    {'model': {3: 4}, 'model_args': {'n_layer': 1}},
    {'model': {}, 'model_args': {'n_head': 0}}, {'model': {}, 'model_args': {'colour': 'red'}}])
def test_a_checkpoint_of_another_kind_is_refused(tmp_path, content):
    torch.save(content, tmp_path / 'ckpt.pt')
    with pytest.raises(ValueError, match='ckpt.pt') as error:
        GPT.from_checkpoint(tmp_path / 'ckpt.pt')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'lm_head.weight': torch.ones(48, 16)}, 'the lm_head.weight of .* is not its wte.weight'),
    ({'transformer.wte.weight': torch.ones(40, 16)},
     'where vocab_size is 48: transformer.wte.weight has the shape'),
    ({'transformer.ln_f.weight': torch.full((16,), float('nan'))},
     'transformer.ln_f.weight .* holds at least 16 numbers'),
    ({'transformer.h.0.attn.rope.freqs': torch.ones(3)}, 'takes transformer.h.0.attn.rope.freqs'),
])
def test_a_checkpoint_that_is_not_of_its_sizes_says_where(tmp_path, changes, message):
    nanogpt_checkpoint(tiny_model(), tmp_path / 'ckpt.pt', **changes)
    with pytest.raises(ValueError, match=message):
        GPT.from_checkpoint(tmp_path / 'ckpt.pt')


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    torch.save({'model': {}, 'model_args': print}, tmp_path / 'ckpt.pt')
    with pytest.raises(ValueError, match='would run code'):
        GPT.from_checkpoint(tmp_path / 'ckpt.pt')


def test_what_pytorch_only_announces_in_its_first_line_is_told_from_the_next():
    error = RuntimeError('Error(s) in loading GPT:\n\tsize mismatch for wte.weight: 3, 4\n\tmore')
    told = 'RuntimeError: Error(s) in loading GPT: size mismatch for wte.weight: 3, 4'
    assert weights.first_line(error) == told
