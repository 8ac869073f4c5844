"""
Models of Llama's family by the scripts: a folder and a GGUF file of the same weights are one model, memories
are written, saved and read by each, and what cannot be loaded is one line.

$ python -m pytest tests/test_family_files.py
"""
import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_families import hugging_face
from test_gguf import keys_of, tensors_of, write
from test_gguf_tokenizer import byte_level_vocabulary
from transformers import AutoConfig, AutoModelForCausalLM

from core import weights
from core.gguf_file import read_gguf
from core.gguf_tokenizer import tokenizer_of_gguf
from load import load_model
from memory import PersistentMemory
from model import GPT

KINDS = {'llama': {'head_dim': 12, 'tie_word_embeddings': True}, 'qwen2': {}, 'qwen3': {'head_dim': 16}}
ONE = '--start=Cats', '--max_new_tokens=6', '--num_samples=1', '--memory_layers=0,2', '--memory_method=4'
TEXT = "--memory_text=Cats don't like 1234567 dogs.",


@pytest.fixture(scope='module')
def vocabulary():
    tokens, merges, types = byte_level_vocabulary()
    return {'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': 'gpt-2', 'tokenizer.ggml.tokens': tokens,
            'tokenizer.ggml.merges': merges, 'tokenizer.ggml.token_type': types}


@pytest.fixture(scope='module')
def twins(tmp_path_factory, vocabulary):
    """{kind: (folder, GGUF file)}, each of the same weights and tokenizer."""
    at, found = tmp_path_factory.mktemp('twins'), {}
    for kind, settings in KINDS.items():
        size = len(vocabulary['tokenizer.ggml.tokens'])
        hf = hugging_face(model_type=kind, vocab_size=size, **settings)
        path = write(at / f'{kind}.gguf', kind, {**keys_of(hf.config, kind), **vocabulary}, tensors_of(hf))
        hf.save_pretrained(at / kind)
        tokenizer_of_gguf(read_gguf(path)).own.save(str(at / kind / 'tokenizer.json'))
        found[kind] = str(at / kind), path
    return found


def texts_of(out):
    """What sample.py wrote, without the last line, which is its speed."""
    return out[out.index('seed '):].splitlines()[:-1]


@pytest.mark.parametrize('kind', KINDS)
def test_a_folder_and_a_gguf_file_of_the_same_weights_are_one_model(twins, kind):
    (model, tokenizer), (other, others) = map(load_model, twins[kind])
    assert model.fingerprint() == other.fingerprint() and tokenizer.name == others.name
    idx = torch.tensor([tokenizer.encode("Cats don't like 1234567 dogs.")])
    assert torch.equal(model(idx, targets=idx)[0], other(idx, targets=idx)[0])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('which', [0, 1])
def test_weights_that_are_read_a_few_rows_at_a_time_are_the_same(twins, kind, which, monkeypatch):
    whole = load_model(twins[kind][which])[0]
    monkeypatch.setattr('core.packed.NUMBERS_AT_ONCE', 100)
    model = load_model(twins[kind][which])[0]
    assert model.fingerprint() == whole.fingerprint() and model.state.sampled == whole.state.sampled
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), whole.state_dict().values()))


@pytest.mark.parametrize('at_once', [100, 10**6])
@pytest.mark.parametrize('which', [0, 1])
@pytest.mark.parametrize('change', [lambda path: os.utime(path, (1, 1)), os.remove])
def test_a_file_that_is_replaced_while_it_is_read_is_told(twins, which, change, at_once, tmp_path,
                                                          monkeypatch):
    monkeypatch.setattr('core.packed.NUMBERS_AT_ONCE', at_once)
    copied = shutil.copy if which else shutil.copytree
    source = str(copied(twins['llama'][which], tmp_path / ('m.gguf' if which else 'm')))
    sizes, state = weights.load(source)
    change(source if which else os.path.join(source, 'model.safetensors'))
    if not which and at_once > 100:  # what was opened is that file, whatever has taken its name
        assert GPT.of_weights(sizes, state).fingerprint() == load_model(twins['llama'][0])[0].fingerprint()
        return
    with pytest.raises(ValueError, match='was changed while it was read: load it again'):
        GPT.of_weights(sizes, state)


@pytest.mark.parametrize('content', [[torch.ones(2)], torch.ones(2), None])
def test_a_pickle_of_something_else_is_told(content, twins, tmp_path):
    shutil.copy(os.path.join(twins['llama'][0], 'config.json'), tmp_path)
    torch.save(content, tmp_path / 'pytorch_model.bin')
    with pytest.raises(ValueError, match=f'holds a {type(content).__name__}, expected tensors'):
        GPT.from_pretrained(str(tmp_path))


def test_another_head_is_refused_wherever_it_differs(tmp_path, monkeypatch):
    monkeypatch.setattr('core.packed.NUMBERS_AT_ONCE', 100)
    hf = hugging_face(model_type='llama', tie_word_embeddings=True)
    hf.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / 'model.safetensors')
    head = tensors['model.embed_tokens.weight'].clone()
    save_file({**tensors, 'lm_head.weight': head}, tmp_path / 'model.safetensors', {'format': 'pt'})
    GPT.from_pretrained(str(tmp_path))
    head[-1, -1] += 1
    save_file({**tensors, 'lm_head.weight': head}, tmp_path / 'model.safetensors', {'format': 'pt'})
    with pytest.raises(ValueError, match='a lm_head.weight that is not its embedding'):
        GPT.from_pretrained(str(tmp_path))


@pytest.mark.parametrize('kind', KINDS)
def test_a_memory_written_with_the_one_file_is_read_with_the_other(twins, kind, run, tmp_path):
    folder, path = twins[kind]
    memory = f'--memory_file={tmp_path}/m.safetensors'
    first = run('sample.py', *ONE, *TEXT, memory, init_from=folder)
    assert (first[0], first[2]) == (0, ''), first[2]
    code, out, err = run('sample.py', *ONE, memory, init_from=path)
    assert (code, err) == (0, '') and texts_of(out) == texts_of(first[1])
    plain, with_memory = (line.split(maxsplit=1)[1] for line in texts_of(out)[1:3])
    assert plain != with_memory


def test_a_text_of_which_not_all_is_read_where_it_is_inserted_is_told(twins, run):
    inserted = *ONE, *TEXT, '--memory_positions=insert'
    code, out, err = run('sample.py', *inserted, '--memory_k=3', init_from=twins['llama'][0])
    stored = int(out.split('of this run: ')[1].split()[0])
    assert code == 0 and err.count('\n') == 1 and f'the best 3 of {stored} remembered tokens' in err
    for all_of_it in f'--memory_k={stored}', '--memory_positions=far':
        assert run('sample.py', *inserted, all_of_it, init_from=twins['llama'][0])[2] == ''


@pytest.mark.parametrize('kind', KINDS)
def test_in_bfloat16_a_model_writes_remembers_and_is_nearly_as_sure_of_a_text(twins, kind, tmp_path):
    exact, tokenizer = load_model(twins[kind][0])
    idx = torch.randint(200, (2, 60), generator=torch.Generator().manual_seed(3))
    memory = PersistentMemory.from_text(exact, "Cats don't like dogs.", tokenizer, (0, 2))
    memory.save(tmp_path / 'm.safetensors')
    model, _ = load_model(twins[kind][1], dtype='bfloat16')
    assert model.fingerprint() == exact.fingerprint()
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    read = PersistentMemory.load(tmp_path / 'm.safetensors', model)
    own = PersistentMemory.from_text(model, "Cats don't like dogs.", tokenizer, (0, 2))
    torch.testing.assert_close(own.keys[2], memory.keys[2], atol=0.2, rtol=0.1)
    for attached in (False, True):
        if attached:
            exact.attach_memory(memory, (0, 2), method=3, memory_fraction=2.0, softmax_scale=1.0)
            model.attach_memory(read, (0, 2), method=3, memory_fraction=2.0, softmax_scale=1.0)
        expected, loss = exact(idx, targets=idx)[1], model(idx, targets=idx)[1]
        assert loss.dtype == torch.float32, 'of 3 nats, bfloat16 tells 3.0 from 3.016'
        assert abs(loss - expected) < 0.02 * expected and loss != expected
    assert model.generate(idx[:, :5], 10, top_k=1).shape == (2, 15)


def test_weights_in_parts_are_put_together_in_any_order_of_tensors(twins, tmp_path):
    folder, _ = twins['qwen3']
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path, max_shard_size=30_000)
    shutil.copy(os.path.join(folder, 'tokenizer.json'), tmp_path)
    assert len([name for name in os.listdir(tmp_path) if name.startswith('model-')]) > 3
    assert load_model(str(tmp_path))[0].fingerprint() == load_model(folder)[0].fingerprint()


# ---- what cannot be loaded, on the command line ----

def cut(twins, vocabulary, at):
    with open(twins['llama'][1], 'rb') as f:
        content = f.read()
    (at / 'cut.gguf').write_bytes(content[:len(content) // 2])
    return at / 'cut.gguf'


def without_tokenizer(twins, vocabulary, at):
    hf = hugging_face(model_type='llama')
    return write(at / 'mute.gguf', 'llama', keys_of(hf.config, 'llama'), tensors_of(hf))


def hostile(twins, vocabulary, at):
    (at / 'bad.gguf').write_bytes(b'GGUF\3\0\0\0' + b'\xff' * 16 + bytes(99))
    return at / 'bad.gguf'


def unknown_type(twins, vocabulary, at):
    with open(twins['llama'][1], 'rb') as f:
        content = f.read()
    name = b'token_embd.weight'
    place = content.index(name) + len(name) + 4 + 2 * 8  # behind its axes
    (at / 'odd.gguf').write_bytes(content[:place] + (99).to_bytes(4, 'little') + content[place + 4:])
    return at / 'odd.gguf'


def experts(twins, vocabulary, at):
    return write(at / 'moe.gguf', 'llama', {'llama.expert_count': 8, 'llama.context_length': 8},
                 {'w': np.ones((1, 1), np.float32)})


def folder_of(model_type, **more):
    def make(twins, vocabulary, at):
        config = AutoConfig.for_model(model_type).to_dict()
        (at / 'config.json').write_text(json.dumps({**config, **more}))
        return at
    return make


UNREAD = {
    'cut': (cut, 'cut.gguf is cut short or damaged'),
    'no tokenizer': (without_tokenizer, 'mute.gguf\' has no tokenizer.ggml.model'),
    'hostile': (hostile, 'bad.gguf is cut short or damaged'),
    'an unknown tensor type': (unknown_type, 'of the unknown tensor type 99'),
    'experts': (experts, 'llama.expert_count=8'),
    'another architecture': (folder_of('gpt_neox'), "'gpt_neox' model"),
    'a mixture': (folder_of('mixtral'), "'mixtral' model"),
    'a window': (folder_of('mistral'), 'sliding_window=4096'),
    'yarn': (folder_of('llama', rope_parameters={'rope_type': 'yarn', 'rope_theta': 1e4, 'factor': 4.0}),
             "'yarn'"),
    'heads that do not divide': (folder_of('qwen3', num_key_value_heads=5), '5 key heads'),
    'missing': (lambda twins, vocabulary, at: at / 'none.gguf', 'none.gguf cannot be read'),
}


@pytest.mark.parametrize('case', UNREAD)
def test_what_cannot_be_loaded_is_one_line_and_nothing_is_written(case, run, twins, vocabulary, tmp_path):
    make, named = UNREAD[case]
    os.makedirs(tmp_path / 'model')
    source = make(twins, vocabulary, tmp_path / 'model')
    code, out, err = run('sample.py', *ONE, *TEXT, f'--memory_file={tmp_path}/m.safetensors',
                         init_from=str(source))
    assert (code, err.count('\n')) == (1, 1) and named in err and err.startswith('error: ')
    assert os.listdir(tmp_path) == ['model']


def test_a_memory_of_one_family_is_one_line_for_another(run, twins, tmp_path):
    memory = f'--memory_file={tmp_path}/m.safetensors'
    assert run('sample.py', *ONE, *TEXT, memory, init_from=twins['llama'][0])[0] == 0
    for kind in ('qwen2', 'qwen3'):
        code, _, err = run('sample.py', *ONE, memory, init_from=twins[kind][1])
        assert (code, err.count('\n')) == (1, 1) and "memory was written by 'llama' with" in err


@pytest.mark.parametrize('dtype', ['float64', 'int3', 'bf16', ''])
def test_a_dtype_that_is_none_is_one_line(run, twins, dtype):
    code, _, err = run('sample.py', *ONE, f'--dtype={dtype}', init_from=twins['qwen3'][1])
    assert (code, err.count('\n')) == (1, 1) and "expected one of 'float32', 'bfloat16', " in err
