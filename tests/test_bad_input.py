"""
Bad input of the scripts: each kind is one line that says what to do, exit code 1, and nothing is written.

$ python -m pytest tests/test_bad_input.py
"""
import os

import pytest
import torch
from conftest import ROOT, old_folder, tiny_model
from safetensors.torch import save_file

from load import load_model
from memory import PersistentMemory

PRAISE = os.path.join(ROOT, 'memories', 'tinyworld_cats_praise.txt')
ONE = ('--start=Cats', '--max_new_tokens=2', '--num_samples=1')
TEXT = ('--memory_text=Cats are good.', '--memory_layers=0')


@pytest.fixture(scope='session')
def written(folder, tmp_path_factory):
    """A memory file of that model, of the text 'Dogs are bad.', layer 0."""
    model, tokenizer = load_model(folder)
    path = tmp_path_factory.mktemp('memory') / 'm.safetensors'
    PersistentMemory.from_text(model, 'Dogs are bad.', tokenizer, (0,)).save(path)
    return str(path)


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


def folder_without_stores(tmp_path):
    return [f'--memory_file={tmp_path}', '--memory_layers=0']


BAD = {
    'missing config': (lambda t: ['config/tinywold.py'], 'did you mean'),
    'broken config': (broken_config, 'broken.py'),
    'unknown setting': (lambda t: ['--temprature=1'], 'did you mean --temperature'),
    'ill-typed setting': (lambda t: ['--top_k=many'], 'top_k'),
    'missing memory': (lambda t: [f'--memory_file={t}/none.safetensors'],
                       'build it with python build_memory'),
    'damaged memory': (damaged_memory, 'damaged or no memory file'),
    'empty memory file': (empty_file, 'damaged or no memory file'),
    'another kind of file': (other_file, 'damaged or no memory file'),
    'memory of another model': (foreign_memory, 'memory was written by'),
    'folder without stores': (folder_without_stores, 'without keyStore'),
    'layer': (lambda t: ['--memory_text=Cats.', '--memory_layers=3'], 'layer 3 does not exist'),
    'layer below 0': (lambda t: ['--memory_text=Cats.', '--memory_layers=-1'], 'layer -1 does not exist'),
    'a text of bookkeeping alone': (lambda t: [*TEXT, '--bookkeeping_tokens=500'],
                                    'text to remember is empty'),
    'a huge scale': (lambda t: [*TEXT, '--softmax_scale=1e39'], 'softmax_scale is 1e+39'),
    'a tiny temperature': (lambda t: ['--temperature=1e-40'], 'temperature is 1e-40'),
    'a seed below 0': (lambda t: ['--seeds=-1'], 'out of range'),
    'a seed too large': (lambda t: [f'--seed={2**70}'], 'give whole numbers from 0 to 2**32 - 1'),
    'too many samples': (lambda t: ['--num_samples=1000000'], 'expected 1 to 50,000'),
    'text that is not unicode': (lambda t: ['--start=\udcff'], 'not UTF-8'),
    'head': (lambda t: [*TEXT, '--memory_heads=2'], 'head 2 does not exist'),
    'k': (lambda t: [*TEXT, '--memory_k=0'], 'k is 0'),
    'method': (lambda t: [*TEXT, '--memory_method=7'], 'method is 7'),
    'select': (lambda t: [*TEXT, '--memory_select=all'], "select is 'all'"),
    'fraction': (lambda t: [*TEXT, '--bookkeeping_fraction=1.5'], 'bookkeeping_fraction is 1.5'),
    'negative fraction': (lambda t: [*TEXT, '--memory_fraction=-1'], 'memory_fraction is -1'),
    'empty text': (empty_text, 'the text to remember is empty'),
    'a file without FILE:': (lambda t: [f'--memory_text={PRAISE}'], 'names a file: write FILE:'),
    'a file with file:': (lambda t: [f'--memory_text=file:{PRAISE}'], f'write FILE:{PRAISE}'[:60]),
    'a folder of texts': (lambda t: [f'--memory_text=FILE:{t}'], 'is a folder: name a file in it'),
    'a pattern for one text': (lambda t: [f'--start=FILE:{t}/*.txt'], 'name one file'),
    'negative threads': (lambda t: ['--threads=-1'], 'threads is -1'),
    'missing text': (lambda t: [f'--memory_text=FILE:{t}/none.txt', '--memory_layers=0'], 'no file'),
    'binary text': (binary_text, 'is not text in UTF-8'),
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


def test_a_memory_of_another_text_is_one_line(run, written):
    code, _, err = run('sample.py', *ONE, *TEXT, f'--memory_file={written}')
    assert (code, err.count('\n')) == (1, 1)
    assert 'holds another text than memory_text' in err


def test_an_experiment_refuses_a_memory_of_another_text_as_sample_does(run, written, tmp_path):
    code, _, err = run('evaluate.py', *TEXT, f'--memory_file={written}', f'--out_dir={tmp_path}/out')
    assert (code, err.count('\n')) == (1, 1)
    assert 'holds another text than memory_text' in err
    assert not os.path.exists(tmp_path / 'out')


@pytest.fixture
def old(folder, tmp_path):
    """An old folder of that model, of the text 'Dogs are bad.', layers 0 and 2."""
    model, tokenizer = load_model(folder)
    memory = PersistentMemory.from_text(model, 'Dogs are bad.', tokenizer, (0, 2))
    old_folder(memory, tmp_path / 'old', '\nDogs are bad.\n')
    return tmp_path / 'old'


def test_an_old_folder_of_another_text_is_one_line_and_of_the_same_is_read(run, old):
    code, _, err = run('sample.py', *ONE, *TEXT, f'--memory_file={old}', '--memory_method=4')
    assert (code, err.count('\n')) == (1, 1)
    assert 'holds another text than memory_text: --memory_text= reads it as it is' in err
    same = run('sample.py', *ONE, '--memory_text=Dogs are bad.', '--memory_layers=0', f'--memory_file={old}',
               '--memory_method=4')
    assert (same[0], same[2]) == (0, '')


def test_a_text_that_an_old_folder_cannot_be_compared_with_is_said_not_to_be_used(run, old):
    (old / 'text.txt').unlink()
    code, _, err = run('sample.py', *ONE, *TEXT, f'--memory_file={old}', '--memory_method=4')
    assert (code, err.count('\n')) == (0, 1)
    assert 'memory_text is not used: the folder does not hold its text' in err
    out_dir = f'--out_dir={old.parent}/out'
    few = '--num_seeds=1', '--num_held_out=1', '--max_new_tokens=2', '--controls=False', '--figure='
    code, _, err = run('evaluate.py', *TEXT, *few, out_dir, f'--memory_file={old}')
    assert (code, err.count('old is not read, memory_text is remembered')) == (0, 1), err


def test_bookkeeping_tokens_that_an_old_folder_was_not_asked_for_are_said_not_to_be_used(run, old):
    code, _, err = run('sample.py', *ONE, '--memory_layers=0', f'--memory_file={old}', '--memory_method=4',
                       '--bookkeeping_tokens=0')
    assert (code, err.count('\n')) == (0, 1)
    assert 'bookkeeping_tokens=0 is not used' in err


@pytest.mark.parametrize('init_from', ['no-such-model', 'no-such-folder/at/all', 'config'])
def test_a_model_that_cannot_be_had_is_one_line(run, init_from, monkeypatch):
    monkeypatch.chdir(ROOT)

    def no_network(*_, **__):
        raise ConnectionError

    monkeypatch.setattr('huggingface_hub.HfApi.model_info', no_network)
    code, _, err = run('sample.py', *ONE, init_from=init_from)
    assert (code, err.count('\n')) == (1, 1)
    assert 'no model could be loaded' in err


def test_a_missing_checkpoint_is_one_line(run, tmp_path):
    code, _, err = run('sample.py', *ONE, f'--out_dir={tmp_path}', init_from='resume')
    assert (code, err.count('\n')) == (1, 1)
    assert 'no checkpoint' in err


def test_compile_on_a_cpu_says_that_it_is_not_done_and_writes_the_same(run):
    plain = run('sample.py', *ONE, '--device=cpu')
    code, out, err = run('sample.py', *ONE, '--device=cpu', '--compile=True')
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
    path = f'{tmp_path}/file/m.safetensors'
    for script, arguments in (('sample.py', (*ONE, '--memory_text=Cats.')),
                              ('build_memory.py', ('--text=Cats.',))):
        code, _, err = run(script, *arguments, '--memory_layers=0', f'--memory_file={path}')
        assert (code, err.count('\n')) == (1, 1)
        assert 'nothing can be written to the folder' in err or 'is a folder' in err or 'file' in err
    assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('script', ['build_memory.py', 'sample.py'])
def test_a_folder_without_permission_is_one_line(run, tmp_path, script, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('tempfile.mkdtemp', refuse)  # as the system does; root may write everywhere
    text = '--text=Cats.' if script == 'build_memory.py' else '--memory_text=Cats.'
    code, _, err = run(script, text, '--memory_layers=0', f'--memory_file={tmp_path}/m.safetensors')
    assert (code, err.count('\n')) == (1, 1)
    assert f"nothing can be written to the folder '{tmp_path}' (Permission denied)" in err


@pytest.mark.parametrize(('script', 'arguments', 'message'), [
    ('build_memory.py', ['--memory_file=x.safetensors'], 'no text to remember'),
    ('build_memory.py', ['--text=Cats.'], 'no file to write'),
    ('evaluate.py', ['--measure=taste'], "measure is 'taste'"),
    ('evaluate.py', [], 'no memory to measure'),
    ('build_memory.py', ['--text= ', '--split_lines=True', '--memory_file=OUT/x'],
     'text to remember is empty'),
    ('train.py', ['--eval_interval=0'], 'eval_interval is 0'),
    ('train.py', ['--dtype=int3'], "dtype is 'int3'"),
    ('train.py', ['--n_head=0'], 'n_head is 0'),
    ('train.py', ['--seed=-1'], 'seed is -1'),
    ('train.py', ['--n_layer=1', '--n_head=3', '--n_embd=8', '--out_dir=OUT'], 'not a multiple of n_head'),
    ('data/tinyworld/prepare.py', ['--train_documents=0'], 'train_documents is 0'),
    ('train.py', ['--dataset=none', '--n_layer=1', '--n_head=1', '--n_embd=8', '--out_dir=OUT'],
     'prepare.py')
])
def test_bad_input_of_the_other_scripts_is_one_line(run, tmp_path, script, arguments, message):
    arguments = [argument.replace('OUT', str(tmp_path)) for argument in arguments]
    trains = script in ('train.py', 'data/tinyworld/prepare.py')
    code, _, err = run(script, *arguments, **({'init_from': ''} if trains else {}))
    assert (code, err.count('\n')) == (1, 1)
    assert message in err
