"""
Settings from config files and the command line: types, order, paths, help, and which names are refused.

    $ pytest tests/test_configurator.py
"""
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SCRIPT, changed

from configurator import configure
from core.kinds import KINDS

# --- what comes back, and in which order

def test_without_arguments_every_setting_keeps_its_default_and_only_settings_come_back(script):
    config = script.run()
    assert list(config) == [line.split(' = ')[0] for line in SCRIPT.splitlines() if ' = ' in line][:-1]
    assert config == {name: script.settings[name] for name in config}


def test_settings_change_in_place_and_nothing_else_of_the_script_does(script):
    before = dict(script.settings)
    config = script.config('import math\nhelper = 3\ntop_k = helper', '--temperature=0.5')
    assert script.settings == before | {'top_k': 3, 'temperature': 0.5}
    assert config['top_k'] == 3 and config['temperature'] == 0.5


def test_after_an_error_no_setting_has_changed(script, error_of):
    before = dict(script.settings)
    error_of(script.run, '--top_k=7', '--temperature=hot')
    assert script.settings == before


@pytest.mark.parametrize('arguments, expected', [
    (['one.py', 'two.py'], 2), (['two.py', 'one.py'], 1), (['one.py', '--top_k=3'], 3),
    (['--top_k=3', 'one.py'], 1),
    (['--top_k=3', '--top_k=4'], 4), (['--top_k=3', 'one.py', '--top_k=4', 'two.py'], 2)])
def test_the_later_of_two_arguments_wins(script, arguments, expected):
    script.write('top_k = 1', 'one.py')
    script.write('top_k = 2', 'two.py')
    assert script.run(*arguments)['top_k'] == expected


# --- values on the command line

@pytest.mark.parametrize('text, expected', [
    ('a=b=c', 'a=b=c'), ('', ''), ('5', '5'), ('True', 'True'), ('None', 'None'),
    ('Cats, cats', 'Cats, cats'),
    ('--x', '--x'), (r'\nCats\nare', '\nCats\nare'), ('\nCats', '\nCats'), (r'a\tb', r'a\tb'),
    ("'Cats'", 'Cats'), ('"Cats"', 'Cats'), (r"'\nCats\t'", '\nCats\t'), (r"'a\\nb'", r'a\nb'),
    ("'It\\'s'", "It's"),
    ("It's", "It's"), ("'", "'"), ("''", ''), ("'a' or 'b'", "'a' or 'b'"), ("'a' 'b'", "'a' 'b'"),
    ("'Cats\"", "'Cats\""),
    ('"Hi," she said', '"Hi," she said'), ('Katzen über Mäuse', 'Katzen über Mäuse')])
def test_a_text_is_taken_as_it_stands_but_for_backslash_n_and_quotes_around_it(script, text, expected):
    assert changed(script, script.run, f'--memory_text={text}', '--start=x') == {'start': 'x'} | (
        {'memory_text': expected} if expected else {})


def test_a_value_may_contain_equals_signs(script):
    assert script.run('--start=1+1=2')['start'] == '1+1=2'


@pytest.mark.parametrize('argument, expected', [
    ('--temperature=1', 1.0), ('--temperature=1e-3', 0.001), ('--temperature=-0.5', -0.5), ('--top_k=0', 0),
    ('--top_k=-1', -1), ('--memory_layers=5', (5,)), ('--memory_layers=(5,)', (5,)),
    ('--memory_layers=5,6', (5, 6)),
    ('--memory_layers=[5, 6]', (5, 6)), ('--memory_layers=()', ()), ('--memory_layers=[]', ()),
    *[(f'--verbose={text}', True) for text in ('True', 'true', '1')],
    *[(f'--compare_plain={text}', False) for text in ('False', 'false', '0')]])
def test_a_value_gets_the_type_of_its_setting(script, argument, expected):
    name = argument[2:].partition('=')[0]
    assert changed(script, script.run, argument) == {name: expected}


WRONG = [('temperature', 'hot'), ('temperature', True), ('temperature', None), ('temperature', (1.0,)),
         ('top_k', 5.0),
         ('top_k', True), ('bookkeeping_tokens', True), ('top_k', '5'), ('top_k', (5,)),
         ('verbose', 2), ('verbose', 1.0), ('verbose', 'yes'),
         ('memory_layers', 5.0), ('memory_layers', True), ('memory_layers', (5, 6.0)),
         ('memory_layers', (True,)),
         ('memory_layers', ((5,),)), ('memory_layers', {'a': 5}), ('temperature', 10**400)]


@pytest.mark.parametrize('name, value', [
    *WRONG, ('start', 5), ('start', True), ('start', ('a',)), ('start', b'a')])
def test_a_wrong_type_in_a_file_names_setting_value_type_and_an_example(script, error_of, name, value):
    what, example = KINDS[type(script.settings[name])]
    assert error_of(script.config, f'{name} = {value!r}') == (
        f'cats.py: {name} was given {value!r} ({type(value).__name__}), expected {what}, '
        f'for example {name}={example}')


@pytest.mark.parametrize('name, value', WRONG)
def test_a_wrong_type_on_the_command_line_names_what_was_given_and_an_example(script, error_of, name, value):
    what, example = KINDS[type(script.settings[name])]
    assert error_of(script.run, f'--{name}={value!r}') == (
        f'{name} was given {value!r} ({type(value).__name__}), expected {what}, '
        f'for example {name}={example}')


@pytest.mark.parametrize('text', ['', 'abc', '1 2', '(', '[1', 'a.b', '__import__("os")', '{[]: 1}',
                                  '(' * 300,
                                  pytest.param('-' * 9999 + '1', id='too deep')])
@pytest.mark.parametrize('name', ['top_k', 'temperature', 'verbose', 'memory_layers'])
def test_text_that_is_no_literal_is_refused_where_no_text_is_expected(script, error_of, name, text):
    assert error_of(script.run, f'--{name}={text}').startswith(f'{name} was given {text!r} (str), expected ')


@pytest.mark.parametrize('name', ['top_k', 'temperature', 'verbose', 'memory_layers', 'start'])
def test_the_example_of_an_error_is_accepted_on_the_command_line_and_in_a_file(script, name):
    example = KINDS[type(script.settings[name])][1]
    assert script.run(f'--{name}={example}')[name] == script.config(f'{name}={example}')[name]


# --- names on the command line

@pytest.mark.parametrize('argument, message', [
    ('--temprature=1', 'unknown setting --temprature, did you mean --temperature?'),
    ('--top-k=5', 'unknown setting --top-k, did you mean --top_k?'),
    ('--memory_layer=5', 'unknown setting --memory_layer, did you mean --memory_layers?'),
    ('--zebra=5', 'unknown setting --zebra, see --help'), ('--zebra', 'unknown setting --zebra, see --help'),
    ('--_hidden=5', 'unknown setting --_hidden, see --help'),
    ('--__file__=x', 'unknown setting --__file__, see --help'),
    ('--os=x', 'unknown setting --os, see --help'), ('--Path=x', 'unknown setting --Path, see --help'),
    ('--=5', 'unknown setting --, see --help'), ('--', 'unknown setting --, see --help')])
def test_an_unknown_option_is_an_error_with_the_nearest_setting(script, error_of, argument, message):
    assert error_of(script.run, argument) == message


def test_a_flag_without_a_value_is_told_how_to_be_written(script, error_of):
    assert error_of(script.run, '--verbose') == (
        '--verbose has no value: write --verbose=VALUE, for example --verbose=True')


def test_a_value_after_a_space_is_told_to_stand_behind_an_equals_sign(script, error_of):
    error = error_of(script.run, '--top_k', '5')
    assert error == '--top_k has no value: write --top_k=VALUE, for example --top_k=5'


@pytest.mark.parametrize('argument', ['top_k=5', '-top_k=5'])
def test_a_setting_without_its_two_dashes_is_told_how_to_be_written(script, error_of, argument):
    assert error_of(script.run, argument) == f'no config file {argument}, did you mean --top_k=VALUE?'


# --- paths

@pytest.mark.parametrize('argument', [r'--memory_file=mems\new.safetensors', r'--out_dir=a\nb',
                                      r'--start=FILE:notes\new.txt',
                                      r'--mem_store=a\nb'])
def test_backslash_n_in_a_path_is_part_of_its_name(script, argument):
    name, _, path = argument[2:].partition('=')
    if name == 'mem_store':
        assert script.run(argument, '--load_mem_store=True')['memory_file'] == path
    else:
        assert script.run(argument)[name] == path


@pytest.mark.parametrize('how', ['option', 'file'])
@pytest.mark.parametrize('name', ['init_from', 'out_dir', 'memory_file'])
def test_the_home_folder_may_be_written_as_a_tilde_in_a_path(script, monkeypatch, name, how):
    monkeypatch.setenv('HOME', '/home/cat')
    given = (f'--{name}=~/m',) if how == 'option' else (script.write(f'{name} = "~/m"'),)
    assert script.run(*given)[name] == '/home/cat/m'
    assert script.run('--memory_text=~/m')['memory_text'] == '~/m'


def test_the_repositorys_own_files_are_found_from_any_folder_unless_the_user_has_such_a_file(script):
    assert script.run('--init_from=assets/tinyworld')['init_from'] == os.path.join(ROOT, 'assets/tinyworld')
    script.write('', 'assets/tinyworld')
    assert script.run('--init_from=assets/tinyworld')['init_from'] == 'assets/tinyworld'
    assert script.run('--init_from=core')['init_from'] == 'core', 'code is not brought along to be read'
    assert script.run('--init_from=assets/none')['init_from'] == 'assets/none'


def test_a_config_file_of_the_repository_is_found_from_any_folder(script):
    assert script.run('config/tinyworld.py')['memory_text'] == 'FILE:memories/taldun.txt'
    script.write('memory_text = "mine"', 'config/tinyworld.py')
    assert script.run('config/tinyworld.py')['memory_text'] == 'mine'


def test_what_is_written_stays_with_the_user(script):
    asset = 'memories/tinyworld_praise.safetensors'
    assert script.run(f'--memory_file={asset}')['memory_file'] == os.path.join(ROOT, asset)
    assert script.run('--out_dir=assets/tinyworld')['out_dir'] == 'assets/tinyworld'
    settings = script.settings | {'memory_file': asset}
    assert configure(settings, written=('memory_file',))['memory_file'] == asset


def test_the_paths_of_a_grid_are_found_too(script, monkeypatch):
    monkeypatch.setenv('HOME', '/home/cat')
    script.settings['grid'] = []
    grid = script.config("grid = [{'memory_file': ['~/a', 'b'], 'memory_k': [1], 'name': 'x'}]")['grid']
    assert grid == [{'memory_file': ['/home/cat/a', 'b'], 'memory_k': [1], 'name': 'x'}]


# --- names of nanoGPT

@pytest.mark.parametrize('line, advice', [
    ('eval_only = True', 'does not train'), ('backend = "gloo"', 'leave it out'),
    ('learning_rate = 1e-3', 'fake.py does not train: leave it out, or run train.py'),
    ('always_save_checkpoint = True', 'does not train'),
    ('gradient_accumulation_steps = 40', 'does not train'),
    ('dataset = "openwebtext"', 'does not train'), ('wandb_log = True', 'fake.py logs nothing'),
    ('n_layer = 6', 'does not train'), ('real_data = 1', 'leave it out')])
def test_a_name_of_nanogpt_that_would_be_ignored_is_refused_with_what_to_do(script, error_of, line, advice):
    name = line.split(' = ')[0]
    error = error_of(script.config, line)
    assert error.startswith(f'cats.py: {name} is a setting of ') and advice in error
    error = error_of(script.run, f'--{name}=1')
    assert error.startswith(f'unknown setting --{name}: {name} is a setting of ')


@pytest.mark.parametrize('line', ['eval_only = False', 'wandb_log = False', 'dropout = 0.0',
                                  'decay_lr = False',
                                  'num_samples = 3', 'max_new_tokens = 9', 'batch_size = 20',
                                  'wandb_project = "x"'])
def test_a_name_of_nanogpt_that_changes_nothing_may_stand_in_a_file(script, line):
    assert changed(script, script.config, line) == {}


@pytest.mark.parametrize('name', ['num_samples', 'max_new_tokens', 'start', 'temperature', 'top_k'])
def test_a_file_for_sampling_is_refused_where_nothing_is_sampled(script, error_of, name):
    script.without('memory_text', 'start', 'temperature', 'top_k')
    assert error_of(script.config, f'{name} = 3').startswith(f'cats.py: {name} is a setting of sample.py')


def test_every_config_file_of_the_repository_is_taken_by_the_scripts_that_share_files(monkeypatch, capsys):
    blocks = {name: settings_of(name) for name in ('sample.py', 'evaluate.py', 'build_memory.py')}
    monkeypatch.chdir(ROOT)
    for path in sorted(Path('config').rglob('*.py')):
        is_for_training = path.name.startswith(('train_', 'finetune_'))
        for settings in [settings_of('train.py')] if is_for_training else blocks.values():
            monkeypatch.setattr(sys, 'argv', ['x.py', str(path)])
            configure(dict(settings))
    assert capsys.readouterr() == ('', '')


def settings_of(script):
    """The globals of a script's settings block, without running the script."""
    source = Path(ROOT, script).read_text()
    settings = {'__file__': script, '__name__': script}
    exec(source.split('# ---')[1].partition('\n')[2], settings)  # noqa: S102, our own scripts
    return settings


# --- config files

@pytest.mark.parametrize('text, expected', [
    ('memory_layers = (memory_layers[0], 11)', {'memory_layers': (9, 11)}),
    ('memory_layers = [5]', {'memory_layers': (5,)}),
    ('memory_layers = range(2)', {'memory_layers': (0, 1)}), ('memory_layers = 5', {'memory_layers': (5,)}),
    ('temperature = 1', {'temperature': 1.0}), ('verbose = 1', {'verbose': True}),
    ('compare_plain = 0', {'compare_plain': False}),
    ('import math\ntop_k = math.floor(2.5)', {'top_k': 2}),
    ('from math import floor\ntop_k = floor(2.5)', {'top_k': 2}),
    ('def double(x):\n    return 2 * x * factor\nfactor = 3\ntop_k = double(2)', {'top_k': 12}),
    ('class Mean: pass\n_top_k = 3\ntop_k = _top_k', {'top_k': 3}), (r'start = "a\nb"', {'start': 'a\nb'}),
    ('start = "\'Cats\'"', {'start': "'Cats'"}), ('start = "über"', {'start': 'über'}), ('', {}),
    ('\ufefftop_k = 3', {'top_k': 3}),
    ('import numpy as np\ntop_k = np.int64(3)\nmemory_layers = np.arange(2)\ntemperature = np.float32(0.5)',
     {'top_k': 3, 'memory_layers': (0, 1), 'temperature': 0.5}),
    ('from numpy import arange\nknn_num = 5 * (arange(3) > 1)', {'memory_layers': (2,)}),
    ('top_k = 3\r\nverbose = True\r\n', {'top_k': 3, 'verbose': True}), ('del top_k', {}),
    ('def memory_layer(): pass', {}),
    ('import os as memory_layer', {}), ('class temperatur: pass', {}), ('_memory_layer = 5', {}),
    ('zebra = [5]', {})])
def test_a_config_file_is_python_that_starts_from_the_current_settings(script, text, expected):
    assert changed(script, script.config, text) == expected


def test_a_config_file_sees_what_came_before_it_and_nothing_else_of_the_script(script):
    assert script.run('--top_k=3', script.write('top_k = top_k + 1'))['top_k'] == 4
    code = "start = ' '.join(sorted(name for name in globals() if name != '__builtins__'))"
    names = script.config(code)['start']
    assert names.split() == sorted(script.run())


def test_a_helper_of_one_config_file_is_not_seen_by_the_next(script, error_of):
    script.write('zebra = 5', 'one.py')
    script.write('top_k = zebra', 'two.py')
    error = error_of(script.run, 'one.py', 'two.py')
    assert error == "two.py, line 1: NameError: name 'zebra' is not defined"


@pytest.mark.parametrize('text, name, close', [
    ('temprature = 1.0', 'temprature', 'temperature'), ('memory_layer = 5', 'memory_layer', 'memory_layers'),
    ('memory_layer = None', 'memory_layer', 'memory_layers'), ('topk = 5', 'topk', 'top_k')])
def test_a_name_near_a_setting_in_a_config_file_is_an_error(script, error_of, text, name, close):
    assert error_of(script.config, text) == (
        f'cats.py: {name} is not a setting, did you mean {close}? (a helper may be called _{name})')


@pytest.mark.parametrize('text, message', [
    ('top_k = 1\ntop_k = = 2', 'cats.py, line 2: SyntaxError: invalid syntax'),
    ('if True:\ntop_k = 2',
     "cats.py, line 2: IndentationError: expected an indented block after 'if' statement on line 1"),
    ('\n\ntop_k = 1 / 0', 'cats.py, line 3: ZeroDivisionError: division by zero'),
    ('def f():\n    return {}["a"]\n\ntop_k = f()', "cats.py, line 2: KeyError: 'a'"),
    ('import zebras', "cats.py, line 1: ModuleNotFoundError: No module named 'zebras'"),
    ('raise ValueError("one\\n  two")', 'cats.py, line 1: ValueError: one two'),
    ('import sys\nsys.exit(3)', 'cats.py, line 2: SystemExit: 3'),
    ('exec("a = = b")', 'cats.py, line 1: SyntaxError: invalid syntax (<string>, line 1)'),
    ('open("none.txt")',
     "cats.py, line 1: FileNotFoundError: [Errno 2] No such file or directory: 'none.txt'")])
def test_a_config_file_that_fails_is_named_with_its_line_and_error(script, error_of, text, message):
    assert error_of(script.config, text) == message


def test_a_config_file_with_a_zero_byte_is_refused(script, error_of):
    assert error_of(script.config, b'top_k = 1\0').endswith('source code string cannot contain null bytes')


def test_a_config_file_that_is_not_utf8_is_refused(script, error_of):
    assert error_of(script.config, b'start = "\xe9"') == (
        "config file 'cats.py' cannot be read (byte 9 is not UTF-8), expected a Python file in UTF-8")


@pytest.mark.parametrize('path', ['folder', ''])
def test_a_folder_is_not_a_config_file(script, error_of, path):
    Path('folder').mkdir()
    assert error_of(script.run, path) == (
        f'config file {path!r} cannot be read (Is a directory), expected a Python file in UTF-8')


def test_a_config_file_that_cannot_be_opened_says_why(script, error_of):
    os.symlink('loop.py', 'loop.py')
    assert error_of(script.run, 'loop.py') == (
        "config file 'loop.py' cannot be read (Too many levels of symbolic links), "
        'expected a Python file in UTF-8')


def test_a_config_file_without_read_permission_says_so(script, error_of, monkeypatch):
    def refuse(path, *arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    monkeypatch.setattr(Path, 'read_text', refuse)  # a mode of 000 does not keep out the root of a container
    assert error_of(script.config, '') == (
        "config file 'cats.py' cannot be read (Permission denied), expected a Python file in UTF-8")


@pytest.mark.parametrize('path, advice', [
    ('config/cat.py', 'did you mean config/cats.py?'), ('cats.py', 'did you mean config/cats.py?'),
    ('cats', 'did you mean config/cats.py?'), ('config/cats', 'did you mean config/cats.py?'),
    ('other/hosre.py', 'did you mean other/horse.py?'), ('none/cats.py', 'did you mean config/cats.py?'),
    ('xylophone', 'expected the path of a Python file, or --key=value')])
def test_a_missing_config_file_is_answered_with_the_nearest_one(script, error_of, path, advice):
    script.write('', 'config/cats.py')
    script.write('', 'other/horse.py')
    assert error_of(script.run, path) == f'no config file {path}, {advice}'


# --- help

@pytest.mark.parametrize('arguments', [
    ['--help'], ['-h'], ['none.py', '--zebra=1', '--help'], ['--top_k=5', '-h']])
def test_help_prints_the_docstring_and_the_settings_block_as_they_stand(script, capsys, arguments):
    with pytest.raises(SystemExit) as exit:
        script.run(*arguments)
    ruler = '# -----------------------------------------------------------------------------\n'
    docstring, block = SCRIPT.split('"""')[1], SCRIPT.split(ruler)[1]
    assert exit.value.code == 0
    assert capsys.readouterr() == (f'{docstring.strip()}\n\n{block}', '')


def test_help_of_a_script_without_a_docstring_is_its_settings_block(script, capsys):
    script.settings['__doc__'] = None
    with pytest.raises(SystemExit):
        script.run('--help')
    assert capsys.readouterr().out.startswith('# what to write\ninit_from = ')


def test_help_of_a_script_without_rulers_is_an_error(script, error_of):
    script.settings['__file__'] = script.write('top_k = 5\n# -----\n', 'bare.py')
    assert error_of(script.run, '-h') == (
        "bare.py has no settings block, expected one between two lines '# -----'")


# --- cost

def test_importing_the_configurator_is_cheap_and_needs_the_standard_library_alone():
    code = ('import sys; before = set(sys.modules); import configurator; '
            'new = {name.partition(".")[0] for name in set(sys.modules) - before}; '
            'print(sorted(new - set(sys.stdlib_module_names)))')
    result = subprocess.run([sys.executable, '-S', '-c', code], cwd=ROOT, capture_output=True, text=True,
                            check=True)
    assert result.stdout == "['configurator', 'core']\n"
