"""
The scripts as a user runs them, on a random model: what they print, and that each kind of bad input is one clear line.

$ python -m pytest tests/test_scripts.py
"""
import ast
import inspect
import os
import re
import shutil

import pytest
import torch
from conftest import ROOT, tiny_model
from safetensors.torch import save_file

from load import encode_tensor, load_model, seed_list
from memory import PersistentMemory
from model import GPT

WRITTEN = {}
PRAISE = os.path.join(ROOT, 'memories', 'tinyworld_cats_praise.txt')


@pytest.fixture(scope='session', autouse=True)
def written(folder, tmp_path_factory):
    """A memory file of that model."""
    model, tokenizer = load_model(folder)
    WRITTEN['path'] = tmp_path_factory.mktemp('memory') / 'm.safetensors'
    PersistentMemory.from_text(model, 'Dogs are bad.', tokenizer, (0,)).save(WRITTEN['path'])


READ = ('--memory_layers=0,2', '--memory_method=3', '--memory_fraction=5', '--softmax_scale=1', '--start=Cats are', '--max_new_tokens=6')


def test_sample_shows_both_texts_of_each_seed_and_the_work(run):
    code, out, err = run('sample.py', *READ, f'--memory_text=FILE:{PRAISE}', '--seeds=1337,5', '--method_text=kind')
    assert (code, err) == (0, '')
    assert re.findall(r'seed (\d+)', out) == ['1337', '5']
    assert len(re.findall(r'^ *plain +Cats are', out, re.MULTILINE)) == 2
    assert len(re.findall(r'^ *kind +Cats are', out, re.MULTILINE)) == 2
    assert re.search(r'memory +of this run: \d+ tokens of 1 text, layers 0, 2, ', out)
    assert re.search(r'\d+ tokens/s plain, \d+ tokens/s with memory, searched \d+ of \d+ token-heads in the first step, '
                     r'[\d.e-]+ of \d+ token-heads per step over all', out)


def test_sample_prints_what_generate_draws_for_each_seed(run, folder):
    _, out, _ = run('sample.py', *READ, f'--memory_text=FILE:{PRAISE}', '--seeds=1337,5')
    model, tokenizer = load_model(folder)
    idx = encode_tensor(tokenizer, 'Cats are', model)
    with open(PRAISE) as f:
        memory = PersistentMemory.from_text(model, f.read(), tokenizer, (0, 2))
    for attached in (False, True):
        if attached:
            model.attach_memory(memory, (0, 2), method=3, memory_fraction=5.0, softmax_scale=1.0)
        for seed in (1337, 5):
            text = tokenizer.decode(model.generate(idx, 6, 0.8, 200, [seed])[0].tolist())
            assert ' '.join(text.split()) in ' '.join(out.split())


def test_a_setting_that_does_not_fit_leaves_no_memory_file(run, tmp_path):
    code, out, _ = run('sample.py', *ONE, *TEXT, '--memory_k=0', f'--memory_file={tmp_path}/m.safetensors')
    assert code == 1
    assert 'seed ' not in out
    assert os.listdir(tmp_path) == []


def test_layers_of_none_and_no_layers_write_plain_text(run):
    code, out, _ = run('sample.py', *ONE, '--memory_text=Cats.', '--memory_layers=()')
    assert code == 0
    assert 'memory  none' in out


def test_a_label_may_be_anything_even_plain(run):
    _, out, _ = run('sample.py', *READ, '--memory_text=Cats are good.', '--num_samples=1', '--method_text=plain')
    assert len(re.findall(r'^ *plain +Cats are', out, re.MULTILINE)) == 2


def test_sample_without_a_memory_writes_plain_text(run):
    code, out, _ = run('sample.py', '--start=Cats are', '--max_new_tokens=4', '--num_samples=2', '--compare_plain=False')
    assert code == 0
    assert 'memory  none' in out
    assert len(re.findall(r'plain +Cats are', out)) == 2


def test_sample_builds_a_missing_file_and_loads_it_the_next_time(run, tmp_path):
    path = tmp_path / 'new' / 'm.safetensors'
    arguments = (*READ, f'--memory_text=FILE:{PRAISE}', f'--memory_file={path}')
    _, first, _ = run('sample.py', *arguments)
    written = path.stat().st_mtime_ns
    _, second, _ = run('sample.py', *arguments)
    assert path.stat().st_mtime_ns == written
    assert first.splitlines()[:-1] == second.splitlines()[:-1]  # the last line holds the speed


def test_trace_lists_what_was_found(run):
    _, out, _ = run('sample.py', *READ, f'--memory_text=FILE:{PRAISE}', '--trace=True', '--num_samples=1', '--bookkeeping_fraction=0')
    head, *rows = [line for line in out.splitlines() if re.match(r' *(layer|[02]) +(head|\d+) ', line)]
    assert head.split()[:4] == ['layer', 'head', 'index', 'token']
    assert rows
    for row in rows:
        layer, _, index, _ = row.split(maxsplit=3)
        assert layer in ('0', '2')
        assert int(index) < 4


def test_build_memory_keeps_each_file_as_a_text_of_its_own(run, tmp_path, folder):
    for name, text in (('a', 'Cats are lovely.'), ('b', 'Dogs are kind.\nTrains are good.')):
        (tmp_path / f'{name}.txt').write_text(text)
    path = tmp_path / 'm.safetensors'
    arguments = (f'--text=FILE:{tmp_path}/*.txt', f'--memory_file={path}', '--memory_layers=0,1')
    code, out, _ = run('build_memory.py', *arguments)
    assert code == 0
    assert '2 texts' in out
    model, tokenizer = load_model(folder)
    memory = PersistentMemory.load(path, model)
    assert [text['text'] for text in memory.texts] == ['Cats are lovely.', 'Dogs are kind.\nTrains are good.']
    assert tokenizer.decode(memory.tokens.tolist()) == 'Cats are lovely.Dogs are kind.\nTrains are good.'
    assert run('build_memory.py', *arguments)[0] == 1
    run('build_memory.py', *arguments, '--overwrite=True', '--split_lines=True')
    assert len(PersistentMemory.load(path, model).texts) == 3


def test_seeds_are_different_begin_with_the_given_one_and_do_not_depend_on_how_many():
    for seed in (0, 7, 1337):
        seeds = seed_list(seed, 500)
        assert seeds[0] == seed
        assert len(set(seeds)) == 500
        assert seed_list(seed, 20) == seeds[:20]
    assert seed_list(1337, 5) == [1337, 2658, 8932, 2179, 9671]


def test_every_script_has_the_same_default_for_a_setting_and_so_has_attach_memory():
    defaults = {}
    for name, parameter in inspect.signature(GPT.attach_memory).parameters.items():
        if parameter.default is not parameter.empty:
            defaults[name if name.endswith(('_fraction', '_scale')) else f'memory_{name}'] = {repr(parameter.default)}
    for script in ('sample.py', 'build_memory.py', 'evaluate.py'):
        with open(os.path.join(ROOT, script)) as f:
            block = re.split(r'^# -{20,}$', f.read(), flags=re.MULTILINE)[1]
        for node in ast.parse(block).body:
            defaults.setdefault(node.targets[0].id, set()).add(repr(ast.literal_eval(node.value)))
    assert {name: values for name, values in defaults.items() if len(values) > 1} == {}


# ---- bad input: one line that says what to do, exit code 1, nothing written ----

ONE = ('--start=Cats', '--max_new_tokens=2', '--num_samples=1')
TEXT = ('--memory_text=Cats are good.', '--memory_layers=0')


def foreign_memory(tmp_path):
    model = tiny_model(seed=9)
    PersistentMemory.from_tokens(model, [1, 2, 3], (0,)).save(tmp_path / 'foreign.safetensors')
    return [f'--memory_file={tmp_path}/foreign.safetensors', '--memory_layers=0']


def damaged_memory(tmp_path):
    (tmp_path / 'damaged.safetensors').write_bytes(b'\x00' * 50)
    return [f'--memory_file={tmp_path}/damaged.safetensors', '--memory_layers=0']


def other_file(tmp_path):
    save_file({'w': torch.zeros(2)}, tmp_path / 'other.safetensors')
    return [f'--memory_file={tmp_path}/other.safetensors', '--memory_layers=0']


def empty_file(tmp_path):
    (tmp_path / 'empty.safetensors').write_bytes(b'')
    return [f'--memory_file={tmp_path}/empty.safetensors', '--memory_layers=0']


def empty_text(tmp_path):
    (tmp_path / 'empty.txt').write_text(' \n')
    return [f'--memory_text=FILE:{tmp_path}/empty.txt', '--memory_layers=0']


def binary_text(tmp_path):
    (tmp_path / 'binary.txt').write_bytes(b'\xff\xfe\x00')
    return [f'--memory_text=FILE:{tmp_path}/binary.txt', '--memory_layers=0']


def broken_config(tmp_path):
    (tmp_path / 'broken.py').write_text('seed = = 3\n')
    return [str(tmp_path / 'broken.py')]


def other_text(tmp_path):
    shutil.copy(WRITTEN['path'], tmp_path / 'm.safetensors')
    return [f'--memory_file={tmp_path}/m.safetensors', *TEXT]


def folder_without_stores(tmp_path):
    return [f'--memory_file={tmp_path}', '--memory_layers=0']


BAD = {
    'missing config': (lambda t: ['config/tinywold.py'], 'did you mean'),
    'broken config': (broken_config, 'broken.py'),
    'unknown setting': (lambda t: ['--temprature=1'], 'did you mean --temperature'),
    'ill-typed setting': (lambda t: ['--top_k=many'], 'top_k'),
    'missing memory': (lambda t: [f'--memory_file={t}/none.safetensors'], 'build it with python build_memory.py'),
    'damaged memory': (damaged_memory, 'damaged or no memory file'),
    'empty memory file': (empty_file, 'damaged or no memory file'),
    'another kind of file': (other_file, 'damaged or no memory file'),
    'memory of another model': (foreign_memory, 'memory was written by'),
    'folder without stores': (folder_without_stores, 'without keyStore'),
    'layer': (lambda t: ['--memory_text=Cats.', '--memory_layers=3'], 'layer 3 does not exist'),
    'layer of the command line below 0': (lambda t: ['--memory_text=Cats.', '--memory_layers=-1'], 'layer -1 does not exist'),
    'a memory of another text': (other_text, 'holds another text than memory_text'),
    'a text that the bookkeeping leaves nothing of': (lambda t: [*TEXT, '--bookkeeping_tokens=500'], 'the text to remember is empty'),
    'a huge scale': (lambda t: [*TEXT, '--softmax_scale=1e39'], 'softmax_scale is 1e+39'),
    'a tiny temperature': (lambda t: ['--temperature=1e-40'], 'temperature is 1e-40'),
    'a seed below 0': (lambda t: ['--seeds=-1'], 'out of range'),
    'a seed too large': (lambda t: [f'--seed={2**70}'], 'out of range'),
    'too many samples': (lambda t: ['--num_samples=1000000'], 'expected 1 to 50,000'),
    'text that is not unicode': (lambda t: ['--start=\udcff'], 'not UTF-8'),
    'head': (lambda t: [*TEXT, '--memory_heads=2'], 'head 2 does not exist'),
    'k': (lambda t: [*TEXT, '--memory_k=0'], 'k is 0'),
    'method': (lambda t: [*TEXT, '--memory_method=7'], 'method is 7'),
    'select': (lambda t: [*TEXT, '--memory_select=all'], "select is 'all'"),
    'fraction': (lambda t: [*TEXT, '--bookkeeping_fraction=1.5'], 'bookkeeping_fraction is 1.5'),
    'negative fraction': (lambda t: [*TEXT, '--memory_fraction=-1'], 'memory_fraction is -1'),
    'empty text': (empty_text, 'the text to remember is empty'),
    'a file without FILE:': (lambda t: [f'--memory_text={PRAISE}', '--memory_layers=0'], 'names a file: write FILE:'),
    'missing text': (lambda t: [f'--memory_text=FILE:{t}/none.txt', '--memory_layers=0'], 'no file'),
    'binary text': (binary_text, 'is not text in UTF-8'),
    'text too long': (lambda t: ['--memory_text=' + 'Cats are good. ' * 60, '--memory_layers=0'], "the model's context is 128"),
    'empty prompt': (lambda t: ['--start='], 'the text is empty'),
    'prompt too long': (lambda t: ['--start=' + 'Cats are good. ' * 60], 'the prompt has'),
    'temperature': (lambda t: ['--temperature=0'], 'temperature is 0'),
    'no samples': (lambda t: ['--num_samples=0'], 'num_samples is 0'),
    'top_k': (lambda t: ['--top_k=-1'], 'top_k is -1'),
    'device': (lambda t: ['--device=tpu'], "device is 'tpu'"),
    'numbered device': (lambda t: ['--device=cpu:x'], "device is 'cpu:x'"),
    'dtype': (lambda t: ['--dtype=int3'], "dtype is 'int3'"),
}


@pytest.mark.parametrize('kind', BAD)
def test_bad_input_is_one_line_and_exit_code_1(run, tmp_path, kind):
    arguments, message = BAD[kind]
    code, out, err = run('sample.py', *ONE, *arguments(tmp_path))
    assert code == 1
    assert message in err
    assert err.startswith('error: ')
    assert err.count('\n') == 1
    assert 'seed ' not in out


@pytest.mark.parametrize('init_from', ['no-such-model', 'no-such-folder/at/all', 'config'])
def test_a_model_that_cannot_be_had_is_one_line(run, init_from, monkeypatch):
    monkeypatch.chdir(ROOT)

    def no_network(*_, **__):
        raise ConnectionError

    monkeypatch.setattr('huggingface_hub.HfApi.model_info', no_network)
    code, _, err = run('sample.py', *ONE, init_from=init_from)
    assert (code, err.count('\n')) == (1, 1)
    assert 'no GPT-2 could be loaded' in err


def test_a_missing_checkpoint_is_one_line(run, tmp_path):
    code, _, err = run('sample.py', *ONE, f'--out_dir={tmp_path}', init_from='resume')
    assert (code, err.count('\n')) == (1, 1)
    assert 'no checkpoint' in err


def test_compile_on_a_cpu_says_that_it_is_not_done_and_writes_the_same(run):
    plain, (code, out, err) = run('sample.py', *ONE, '--device=cpu'), run('sample.py', *ONE, '--device=cpu', '--compile=True')
    assert code == 0
    assert 'compile: not on a CPU' in err
    assert out.splitlines()[:-1] == plain[1].splitlines()[:-1], 'the last line is the speed'


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has CUDA')
def test_cuda_where_there_is_none_is_one_line(run):
    code, _, err = run('sample.py', *ONE, '--device=cuda')
    assert (code, err.count('\n')) == (1, 1)
    assert 'torch finds no CUDA' in err


def test_a_gpu_beyond_the_last_is_one_line(run, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    code, _, err = run('sample.py', *ONE, '--device=cuda:2')
    assert (code, err.count('\n')) == (1, 1)
    assert "device is 'cuda:2', but torch finds 2 here: give cuda:0 to cuda:1" in err


def test_a_place_that_cannot_be_written_is_one_line(run, tmp_path):
    (tmp_path / 'file').write_text('in the way')
    for script, arguments in (('sample.py', (*ONE, '--memory_text=Cats.')), ('build_memory.py', ('--text=Cats.',))):
        code, _, err = run(script, *arguments, '--memory_layers=0', f'--memory_file={tmp_path}/file/m.safetensors')
        assert (code, err.count('\n')) == (1, 1)
        assert 'nothing can be written to the folder' in err or 'is a folder' in err or 'file' in err
    assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('script', ['build_memory.py', 'sample.py'])
def test_a_folder_without_permission_is_one_line(run, tmp_path, script, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('tempfile.mkdtemp', refuse)  # as the system does; root, who may run this, may write everywhere
    text = '--text=Cats.' if script == 'build_memory.py' else '--memory_text=Cats.'
    code, _, err = run(script, text, '--memory_layers=0', f'--memory_file={tmp_path}/m.safetensors')
    assert (code, err.count('\n')) == (1, 1)
    assert f"nothing can be written to the folder '{tmp_path}' (Permission denied)" in err


@pytest.mark.parametrize(('script', 'arguments', 'message'), [
    ('build_memory.py', ['--memory_file=x.safetensors'], 'no text to remember'),
    ('build_memory.py', ['--text=Cats.'], 'no file to write'),
    ('evaluate.py', ['--measure=taste'], "measure is 'taste'"),
    ('evaluate.py', [], 'no memory to measure'),
    ('build_memory.py', ['--text= ', '--split_lines=True', '--memory_file=OUT/x.safetensors'], 'the text to remember is empty'),
    ('train.py', ['--eval_interval=0'], 'eval_interval is 0'),
    ('train.py', ['--dtype=int3'], "dtype is 'int3'"),
    ('train.py', ['--n_head=0'], 'n_head is 0'),
    ('train.py', ['--seed=-1'], 'seed is -1'),
    ('train.py', ['--n_layer=1', '--n_head=3', '--n_embd=8', '--out_dir=OUT'], 'not a multiple of n_head'),
    ('data/tinyworld/prepare.py', ['--train_documents=0'], 'train_documents is 0'),
    ('train.py', ['--dataset=none', '--n_layer=1', '--n_head=1', '--n_embd=8', '--out_dir=OUT'], 'prepare.py'),
])
def test_bad_input_of_the_other_scripts_is_one_line(run, tmp_path, script, arguments, message):
    arguments = [argument.replace('OUT', str(tmp_path)) for argument in arguments]
    code, _, err = run(script, *arguments, **({'init_from': ''} if script in ('train.py', 'data/tinyworld/prepare.py') else {}))
    assert (code, err.count('\n')) == (1, 1)
    assert message in err
