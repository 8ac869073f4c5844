"""
sample.py and build_memory.py as a user runs them, on a random model: what they print, write and say.

$ python -m pytest tests/test_sample.py
"""
import ast
import inspect
import os
import pathlib
import re
import shlex

import pytest
from conftest import ROOT, tiny_model

from load import Tokenizer, encode_tensor, load_model, open_memory
from memory import PersistentMemory
from model import GPT
from reader import SETTINGS, Reading

PRAISE = os.path.join(ROOT, 'memories', 'tinyworld_cats_praise.txt')
ONE = ('--start=Cats', '--max_new_tokens=2', '--num_samples=1')
TEXT = ('--memory_text=Cats are good.', '--memory_layers=0')
READ = ('--memory_layers=0,2', '--memory_method=3', '--memory_fraction=5', '--softmax_scale=1',
        '--start=Cats are',
        '--max_new_tokens=6')


def test_sample_shows_both_texts_of_each_seed_and_the_work(run):
    arguments = f'--memory_text=FILE:{PRAISE}', '--seeds=1337,5', '--method_text=kind'
    code, out, err = run('sample.py', *READ, *arguments)
    assert (code, err) == (0, '')
    assert re.findall(r'seed (\d+)', out) == ['1337', '5']
    assert len(re.findall(r'^ *plain +Cats are', out, re.MULTILINE)) == 2
    assert len(re.findall(r'^ *kind +Cats are', out, re.MULTILINE)) == 2
    assert re.search(r'memory +of this run: \d+ tokens of 1 text, layers 0, 2, ', out)
    assert re.search(r'\d+ tokens/s plain, \d+ tokens/s with memory, searched \d+ of \d+ token-heads in the '
                     r'first step, [\d.e-]+ of \d+ token-heads per step over all', out)


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
    _, out, _ = run('sample.py', *READ, '--memory_text=Cats are good.', '--num_samples=1',
                    '--method_text=plain')
    assert len(re.findall(r'^ *plain +Cats are', out, re.MULTILINE)) == 2


def test_sample_without_a_memory_writes_plain_text(run):
    few = '--max_new_tokens=4', '--num_samples=2'
    code, out, _ = run('sample.py', '--start=Cats are', *few, '--compare_plain=False')
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
    arguments = f'--memory_text=FILE:{PRAISE}', '--trace=True', '--num_samples=1', '--bookkeeping_fraction=0'
    _, out, _ = run('sample.py', *READ, *arguments)
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
    assert [text['text'] for text in memory.texts] == [
        'Cats are lovely.', 'Dogs are kind.\nTrains are good.']
    assert tokenizer.decode(memory.tokens.tolist()) == 'Cats are lovely.Dogs are kind.\nTrains are good.'
    assert run('build_memory.py', *arguments)[0] == 1
    run('build_memory.py', *arguments, '--overwrite=True', '--split_lines=True')
    assert len(PersistentMemory.load(path, model).texts) == 3


def test_every_script_has_the_same_default_for_a_setting_and_so_has_attach_memory():
    defaults = {}
    for name, parameter in inspect.signature(GPT.attach_memory).parameters.items():
        if parameter.default is not parameter.empty:
            defaults[SETTINGS[name]] = {repr(parameter.default)}
    for script in ('sample.py', 'build_memory.py', 'evaluate.py'):
        with open(os.path.join(ROOT, script)) as f:
            block = re.split(r'^# -{20,}$', f.read(), flags=re.MULTILINE)[1]
        for node in ast.parse(block).body:
            defaults.setdefault(node.targets[0].id, set()).add(repr(ast.literal_eval(node.value)))
    differ = {name: values for name, values in defaults.items() if len(values) > 1}
    assert differ == {'memory_layers': {'None', '(9,)'}}  # which for attach_memory is (9,), but for method 5


# ---- recall ----

ASKED = ('--memory_method=5', '--memory_layers=()', '--index_heads=((0,0),(1,1))', '--max_new_tokens=3',
          '--num_samples=2', '--memory_text=Dogs are bad.')


def test_what_is_recalled_is_told_with_its_votes(run):
    code, out, err = run('sample.py', *ASKED, '--start=\nDogs')
    assert (code, err) == (0, '')
    assert "recalling 1 of 1 by heads 0:0, 1:1: method 5, threshold 0, positions 'own'" in out
    assert 'recalled at step 0: text 0  (0.0 votes): Dogs are bad.' in out
    _, out, _ = run('sample.py', *ASKED, '--start=\nDogs', '--recall_threshold=9')
    assert 'recalled at step 0: nothing, it writes as without a memory' in out
    for block in out.split('\nseed ')[1:]:
        plain, remembered = re.search(r'plain(.*?)\nmemory(.*?)(?:\n\n|$)', block, re.DOTALL).groups()
        assert plain.split() == remembered.split()


def test_recall_in_some_layers_alone_is_noted(run):
    assert 'reads in layers 1 alone' in run('sample.py', *ASKED, '--start=\nDogs', '--memory_layers=1')[2]


# ---- the text in the prompt, beside the memory ----

PAIR = (*READ[:-1], '--max_new_tokens=4', '--seeds=1337,5', '--compare_prompt=True')


def test_the_third_column_is_the_plain_model_with_the_text_in_front_of_the_prompt(run, folder):
    strong = '--memory_layers=0,1,2', '--memory_method=1', '--max_new_tokens=12'
    _, out, err = run('sample.py', *PAIR, *strong, '--memory_text=Dogs are bad.')
    assert err == ''
    plain, prompt, memory = (columns_of(out, label) for label in ('plain', 'in prompt', 'memory'))
    assert plain != memory, 'a memory that changes nothing would prove nothing'
    model, tokenizer = load_model(folder)
    for columns, front in ((plain, ''), (prompt, '\nDogs are bad.\n')):
        idx = encode_tensor(tokenizer, f'{front}Cats are', model)
        for seed, text in zip((1337, 5), columns):
            written = tokenizer.decode(model.generate(idx, 12, 0.8, 200, [seed])[0].tolist())
            assert text.split() == written.removeprefix(front).split()


def columns_of(out, label):
    """The texts that stand behind a label, one a seed."""
    label_begins = r'\n(?= *(?:plain|in prompt|memory) {4})'
    texts = [block for seed in out.split('\nseed ')[1:] for block in re.split(label_begins, seed)]
    return [text.strip().removeprefix(label) for text in texts if text.strip().startswith(f'{label}    ')]


def test_a_text_that_is_too_long_for_the_prompt_is_one_line_and_no_column(run, folder):
    tokenizer, text = load_model(folder)[1], 'Cats'
    while len(tokenizer.encode(f'\n{text} are')) <= 128:  # the longest that the memory takes
        text += ' are'
    code, out, err = run('sample.py', *PAIR, f'--memory_text={text}')
    assert (code, err.count('\n')) == (0, 1)
    assert "no text in the prompt beside the memory: " in err and "the model's context is 128" in err
    assert 'in prompt' not in out and out.count('plain ') == 2


def test_a_text_that_the_memory_does_not_hold_is_one_line_and_no_column(run, folder, tmp_path):
    PersistentMemory.from_tokens(load_model(folder)[0], [1, 2, 3], (0, 2)).save(tmp_path / 'm.safetensors')
    code, out, err = run('sample.py', *PAIR, f'--memory_file={tmp_path}/m.safetensors')
    assert (code, err.count('\n')) == (0, 1)
    assert 'the memory does not hold its text' in err
    assert 'in prompt' not in out and out.count('plain ') == 2


def test_the_recall_templates_show_the_third_column_and_the_default_is_without():
    with_it = {'sample_gpt2', 'sample_gpt2_type_2_method', 'smollm2_recall', 'tinyworld', 'tinyworld_recall'}
    for path in pathlib.Path(ROOT, 'config').glob('*.py'):
        assert ('\ncompare_prompt = True\n' in path.read_text()) == (path.stem in with_it), path


# ---- what is said on stderr ----

def test_the_look_ups_of_the_first_step_are_those_that_the_trace_lists(run):
    _, out, _ = run('sample.py', *READ, '--memory_text=Dogs are bad.', '--trace=True', '--num_samples=1')
    rows = re.findall(r'^ +[02] +[01] +\d+ ', out, re.MULTILINE)
    assert rows and f'searched {len(rows)} of' in out
    _, without, _ = run('sample.py', *READ, '--memory_text=Dogs are bad.', '--num_samples=1')
    assert f'searched {len(rows)} of' in without


def test_the_trace_of_method_4_in_which_every_token_looks_up_is_that_of_the_newest(run):
    arguments = '--memory_text=Dogs are bad.', '--trace=True', '--num_samples=1', '--memory_method=4'
    _, out, _ = run('sample.py', *READ, *arguments)
    rows = re.findall(r'^ +([02]) +([01]) +(\d+) ', out, re.MULTILINE)
    newest = max(int(index) for *_, index in rows)
    expected = [(layer, head, newest) for layer in (0, 2) for head in (0, 1)]
    assert [tuple(map(int, row)) for row in rows] == expected
    assert f'searched {4 * (newest + 1)} of' in out


@pytest.mark.parametrize('arguments', [
    ['--bookkeeping_fraction=1'], ['--bookkeeping_fraction=1', '--trace=True']])
def test_a_memory_that_nothing_looked_up_is_told(run, arguments):
    code, out, err = run('sample.py', *ONE, *TEXT, *arguments)
    assert (code, err.count('\n')) == (0, 1)
    assert 'no token-head looked up at all, the memory was not read: lower bookkeeping_fraction' in err
    assert 'Eq. 1' not in out


def test_a_text_without_a_layer_that_reads_is_told(run):
    code, out, err = run('sample.py', *ONE, '--memory_text=Cats.', '--memory_layers=()')
    assert (code, err) == (0, 'no memory is read: memory_layers is (), name the layers that read\n')
    assert 'memory  none' in out


def test_a_memory_built_with_other_bookkeeping_tokens_is_told(run, tmp_path):
    path = f'--memory_file={tmp_path}/m.safetensors'
    run('build_memory.py', '--text=Cats are good.', '--bookkeeping_tokens=0', path, '--memory_layers=0')
    for text in ((), ('--memory_text=Cats are good.',)):
        code, _, err = run('sample.py', *ONE, path, '--memory_layers=0', '--bookkeeping_fraction=0', *text)
        assert (code, err.count('\n')) == (0, 1)
        assert 'built with bookkeeping_tokens=0, and is read as it is: for 1 build it again' in err
    read = '--memory_layers=0', '--bookkeeping_fraction=0', '--bookkeeping_tokens=0'
    assert run('sample.py', *ONE, path, *read)[2] == ''


@pytest.mark.parametrize('asked', [0, 1, 2, 3])
def test_a_prefix_of_two_tokens_is_left_out_whole(asked):
    ids = {'\n': [7, 8]}
    two = Tokenizer('two', 48, lambda text: [i for c in text for i in ids.get(c, [ord(c) % 48])], str)
    settings = {'memory_file': '', 'memory_text': 'cats', 'memory_layers': (0,), 'bookkeeping_tokens': asked,
                'memory_heads': (), 'memory_k': 1, 'memory_method': 2, 'memory_fraction': 0.0,
                'softmax_scale': 1.0,
                'bookkeeping_fraction': 0.5, 'residual_fraction': 0.1, 'memory_select': 'last',
                'memory_positions': '', 'memory_distance': 512, 'chat': False, 'system': '',
                **{name: getattr(Reading, name) for name in SETTINGS if SETTINGS[name] == name},
                'memory_index': ''}
    memory = open_memory(tiny_model(), two, settings)
    assert memory.tokens.tolist() == two.encode('cats')[max(0, asked - 2):]


# ---- files ----

def test_of_two_that_build_one_file_the_first_stays(run, tmp_path, monkeypatch):
    def save(memory, path, replace=True):
        assert replace is False
        pathlib.Path(path).write_text('the other')
        raise FileExistsError(f'{path} exists')

    monkeypatch.setattr(PersistentMemory, 'save', save)
    path = f'--memory_file={tmp_path}/m.safetensors'
    code, out, err = run('sample.py', *ONE, *TEXT, '--bookkeeping_fraction=0', path)
    assert (code, err.count('\n')) == (0, 1)
    assert 'was made by another process meanwhile: it stays' in err and 'seed 1337' in out
    (tmp_path / 'm.safetensors').unlink()
    code, _, err = run('build_memory.py', '--text=Cats.', '--memory_layers=0', path)
    assert (code, err.count('\n')) == (1, 1)
    assert 'was made by another process meanwhile, and stays: name another' in err
    assert (tmp_path / 'm.safetensors').read_text() == 'the other'


def test_the_scripts_run_from_any_folder_and_write_into_the_users_own(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = '--num_samples=1', '--max_new_tokens=2'
    assert run('sample.py', 'config/tinyworld_sentiment.py', *few, init_from='')[0] == 0
    code, out, _ = run('sample.py', 'config/tinyworld_recall.py', *few, '--memory_file=new/m.safetensors',
                       init_from='')
    assert (code, os.listdir('new')) == (0, ['m.safetensors'])
    praise = '--text=FILE:memories/tinyworld_cats_praise.txt'
    code, out, err = run('build_memory.py', 'config/tinyworld_sentiment.py', praise, init_from='')
    assert (code, err) == (0, '')
    assert os.listdir('memories') == ['tinyworld_praise.safetensors']
    assert 'FILE:memories/tinyworld_cats_praise.txt' in out


def test_an_experiment_runs_from_any_folder_and_says_what_its_config_file_says(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = '--num_seeds=1', '--num_held_out=1', '--max_new_tokens=2', '--controls=False', '--figure='
    code, _, err = run('evaluate.py', 'config/tinyworld_sentiment.py', *few, init_from='')
    assert code == 0, err
    summary = (tmp_path / 'out' / 'tinyworld_sentiment' / 'summary.md').read_text()
    assert 'A memory of praise, loaded from a stored file, and an unkind prompt.' in summary


@pytest.mark.parametrize(('script', 'text'),
                         [('sample.py', '--memory_text=Cats.'), ('build_memory.py', '--text=Cats.')])
def test_threads_are_those_of_the_setting_and_0_is_torchs_choice(run, tmp_path, monkeypatch, script, text):
    asked = []
    monkeypatch.setattr('torch.set_num_threads', asked.append)
    more = [f'--memory_file={tmp_path}/m.safetensors', '--overwrite=1']
    if script == 'sample.py':
        more = [*ONE, '--bookkeeping_fraction=0']
    for threads in 0, 2:
        assert run(script, *more, text, '--memory_layers=0', f'--threads={threads}')[0] == 0
    assert asked == [2]


RECALL = '--memory_method=5', '--memory_layers=()', '--index_heads=((1, 0),)'


def test_a_memory_whose_texts_are_all_forgotten_recalls_nothing(run, tmp_path):
    path = f'--memory_file={tmp_path}/notes'
    assert run('build_memory.py', '--text=Cats are good.', path, *RECALL[1:])[0] == 0
    assert run('build_memory.py', path, '--forget=0')[0] == 0
    code, out, err = run('sample.py', *ONE, *RECALL, path)
    assert (code, err) == (0, f'{tmp_path}/notes holds no tokens: nothing will be read\n')
    assert 'recalled at' not in out


def test_a_missing_memory_of_method_5_is_built_by_the_command_that_is_told(run, tmp_path):
    path = f'{tmp_path}/notes'
    code, _, err = run('sample.py', *ONE, *RECALL, f'--memory_file={path}')
    assert code == 1
    command = shlex.split(err[err.index('--text='):])
    command[0] = '--text=Cats are good.'
    assert run('build_memory.py', *command)[0] == 0
    assert run('sample.py', *ONE, *RECALL, f'--memory_file={path}')[0] == 0


def test_a_prompt_that_begins_otherwise_than_the_texts_gets_a_note(run):
    text = '--memory_text=Cats are good.'
    _, _, err = run('sample.py', *ONE, *RECALL, text)
    assert re.match(r"note: the texts were written behind '\\n', the prompt begins with 'Cats': ", err)
    assert run('sample.py', *ONE[1:], *RECALL, text, '--start=\nCats')[2] == ''
