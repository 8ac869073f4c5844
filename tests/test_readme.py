"""
Every command of the README runs, in a copy of the repository; long ones are made short by more settings.

$ python -m pytest tests/test_readme.py
"""
import io
import os
import re
import runpy
import shlex
import shutil
import sys

import pytest
from conftest import ROOT
from test_heads_by_half import write_squad

SHORT = {  # appended to the commands of a script
    'evaluate.py': ['--num_seeds=2', '--num_facts=2', '--num_held_out=1', '--max_new_tokens=4'],
    'train.py': ['--max_iters=1', '--eval_iters=1', '--eval_interval=1', '--batch_size=2', '--export_dir=',
                 '--dtype=float32'],  # a step in bfloat16 takes seconds where the processor has none
    'data/tinyworld/prepare.py': ['--train_documents=200', '--val_documents=20'],
    'build_memory.py': [],
    'bench.py': ['--models=assets/tinyworld', '--stored_tokens=20', '--contexts=16', '--curve_tokens=20',
                 '--repeats=1', '--parts=search,curves', '--floor_size=64',  # test_bench.py runs every part
                 "--workloads=[{'rows': 1, 'prompt': 16, 'new': 2}]"],
    'sample.py': ['--max_new_tokens=4', '--num_samples=2'],
    'chat.py': ['--max_new_tokens=4'],
}

# what a template's comment says that only the model with memory answers
PROMISED = {'python sample.py config/smollm2.py': 'Henrik Dahl',
            'python sample.py config/smollm2_recall.py': 'Vancouver'}


def commands():
    """The lines that begin with '$ ' in the README, in pages it links, in comments of config files."""
    configs = sorted(file for file in os.listdir(f'{ROOT}/config') if file.endswith('.py'))
    # those written by hand: what evaluate.py writes into assets/ has the commands of whole sweeps
    pages = ['README.md', 'page/README.md',
             *(f'assets/{page}.md' for page in ('libraries', 'RESULTS', 'speed', 'tinyworld'))]
    lines = []
    for name in [*pages, *(f'config/{file}' for file in configs)]:
        with open(os.path.join(ROOT, name), encoding='utf-8') as f:
            text = re.sub(r'\\\n(?:# +)?', ' ', f.read())  # commands of two lines
        lines += re.findall(r'^(?:# +)?\$ (.*?)(?:  +#.*)?$', text, re.MULTILINE)
    return list(dict.fromkeys(part for line in lines for part in line.split(' && ')))


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    """The repository as a clone would have it."""
    folder = tmp_path_factory.mktemp('clone') / 'repository'
    ignored = shutil.ignore_patterns('.venv', '.git', 'out*', 'wandb', '*.bin', '__pycache__', '.*_cache',
                                     'golden', 'tests')
    shutil.copytree(ROOT, folder, ignore=ignored)
    for file in os.listdir(folder / 'memories'):
        if file.endswith('.safetensors') and file != 'tinyworld_praise.safetensors':
            os.remove(folder / 'memories' / file)
    write_squad(folder / 'dev.json')  # which a reader fetches
    return folder


def test_the_readme_has_its_two_commands_first():
    assert [line.split('  ')[0] for line in commands()[:2]] == ['make sample', 'make test']
    with open(os.path.join(ROOT, 'Makefile')) as f:
        makefile = f.read()
    assert re.search(r'^sample: .*\n(\t.*sample\.py.*\n){2}', makefile, re.MULTILINE)
    assert re.search(r'^test: .*\n(\t.*\n)*\t.*pytest', makefile, re.MULTILINE)


def needed_first(command, copy):
    """The commands that a reader has run before this one, where their results are not there yet."""
    if 'train.py config/train' in command and not (copy / 'data' / 'tinyworld' / 'train.bin').exists():
        yield ['data/tinyworld/prepare.py']
    if 'train.py config/finetune' in command and not (copy / 'data' / 'tinyworld_more').exists():
        yield shlex.split(next(line for line in commands() if 'tinyworld_more' in line))[1:]
    if 'resume' in command and not (copy / 'out-tinyworld' / 'last.pt').exists():
        yield ['train.py', 'config/train_tinyworld.py']
    if 'smollm2_library' in command:  # each begins with a library of its own
        shutil.rmtree(copy / 'memories' / 'library', ignore_errors=True)
    if 'smollm2_library' in command and not command.endswith('*.txt"'):
        yield ['build_memory.py', 'config/smollm2_library.py', '--text=FILE:memories/cats*.txt']
    if 'memory_file=out/' in command:  # each begins with a library of its own
        shutil.rmtree(copy / 'out', ignore_errors=True)
        is_new = '--text' in command and '--append' not in command
        for name in [] if is_new else ['=out/notes'] + ['=out/more'] * ('--merge' in command):
            yield shlex.split(next(line for line in commands() if line.endswith(name)))[1:]
    mine = copy / 'memories' / 'mine.safetensors'
    if mine.name in command and 'build' not in command and not mine.exists():
        yield shlex.split(next(line for line in commands() if mine.name in line and 'build' in line))[1:]


def test_the_python_of_the_readme_runs(copy, monkeypatch):
    with open(os.path.join(ROOT, 'README.md')) as f:
        code = re.search(r'```python\n(.*?)```', f.read(), re.DOTALL)[1]
    monkeypatch.chdir(copy)
    names = {}
    exec(code, names)  # noqa: S102, our own README
    assert names['y'].shape == (2, names['idx'].size(1) + 50)
    assert len(names['memory'].texts) == 2
    assert not names['model'].readers


@pytest.mark.parametrize('command', [line for line in commands() if not line.startswith('make ')])
def test_the_command_runs(command, copy, request, monkeypatch, capsys):
    words = shlex.split(command)
    assert words[0] == 'python', f'{command}: only python and make are checked here'
    script, arguments = words[1], words[2:]
    if '--init_from=gpt2' in arguments or any('sample_gpt2' in argument for argument in arguments):
        arguments = [a for a in arguments if a != '--init_from=gpt2']
        arguments.append(f'--init_from={request.getfixturevalue("gpt2")}')
    if 'smollm2' in command or script == 'chat.py':
        request.getfixturevalue('smollm2_loaded')
    monkeypatch.chdir(copy)
    monkeypatch.setattr(sys, 'stdin', io.StringIO('My sister lives in Oporto.\n'))  # what chat.py is told
    for earlier in needed_first(command, copy):
        monkeypatch.setattr(sys, 'argv', [*earlier, *SHORT[earlier[0]]])
        runpy.run_path(earlier[0], run_name='__main__')
    fewer = {'find_layers': ['--memory_layers=5', '--grid=[]', '--controls=False'], 'writeup': ['--grid=[]'],
             'find_index_heads': ['--texts_together=6'],
             'find_reading_layers': ['--init_from=assets/tinyworld', '--index_heads=((5, 5),)']}
    # a model of 135 M parameters takes seconds where the embedded one takes none
    fewer |= {'evaluate.py config/smollm2': ['--controls=False'],
              'sample.py config/smollm2': ['--num_samples=1']}
    fewer = [argument for name, some in fewer.items() if name in command for argument in some]
    monkeypatch.setattr(sys, 'argv', [script, *arguments, *SHORT.get(script, []), *fewer])
    runpy.run_path(script, run_name='__main__')
    out = capsys.readouterr().out
    assert out.strip()
    if command in PROMISED:
        plain, remembered = re.search(r'^ *plain (.*?)^ *method 4 (.*)', out, re.M | re.DOTALL).groups()
        assert PROMISED[command] in remembered
        assert PROMISED[command] not in plain.partition('in prompt')[0]
