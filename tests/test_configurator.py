"""
Settings from config files and the command line: types, order, help, one-line errors, and the original project's names.

    $ pytest tests/test_configurator.py
"""
import errno
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configurator import KINDS, OLD_NAMES, configure, one_line_errors, translate_old_names

ROOT = Path(__file__).resolve().parent.parent

SCRIPT = '''"""
Writes about cats.

    $ python fake.py config/cats.py
"""
import os
from pathlib import Path

# -----------------------------------------------------------------------------
# what to write
start = '\\n'          # the prompt, or FILE:path
temperature = 0.8     # 1 is the model's own
top_k = 200           # 0 is all
verbose = False       # print every step
memory_text = ''      # a text to remember
memory_file = 'memories/cats.safetensors'
memory_layers = (9,)  # 0-based
memory_k = 5
memory_method = 2
memory_fraction = 0.0
bookkeeping_fraction = 0.9
bookkeeping_tokens = 1
softmax_scale = 1000.0
residual_fraction = 0.1
compare_plain = True
method_text = ''
# -----------------------------------------------------------------------------

after_the_block = 'not help'
'''
NEW_NAMES_OF_MEMORY = {name for names in OLD_NAMES.values() for name in names}


class Script:
    """A script's globals right after its settings block; run() is the command line that a person types."""

    def __init__(self, settings, folder, monkeypatch):
        self.settings, self.folder, self.monkeypatch = dict(settings), folder, monkeypatch

    def without(self, *names):
        for name in names:
            del self.settings[name]
        return self

    def write(self, text, name='cats.py'):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    def run(self, *arguments):
        self.monkeypatch.setattr(sys, 'argv', ['fake.py', *arguments])
        return configure(self.settings)

    def config(self, text, *arguments):
        return self.run(self.write(text), *arguments)


@pytest.fixture(scope='module')
def fake(tmp_path_factory):
    path = tmp_path_factory.mktemp('scripts') / 'fake.py'
    path.write_text(SCRIPT)
    settings = runpy.run_path(str(path), {'_hidden': 1})
    del settings['after_the_block']
    return settings


@pytest.fixture
def script(fake, monkeypatch):
    # a fresh folder each, but beside the one fake.py: files are what three hundred tests spend their time on
    folder = Path(tempfile.mkdtemp(dir=Path(fake['__file__']).parent))
    monkeypatch.chdir(folder)
    return Script(fake, folder, monkeypatch)


@pytest.fixture
def error_of(capsys):
    """The one line on stderr that a call ends with, after a check that it is one line, with this exit code."""
    def error_of(call, *arguments, code=1):
        with pytest.raises(SystemExit) as exit:
            call(*arguments)
        out, err = capsys.readouterr()
        assert exit.value.code == code
        assert out == '' and err.startswith('error: ') and err.endswith('\n') and err.count('\n') == 1
        return err.removeprefix('error: ').removesuffix('\n')
    return error_of


def changed(script, call, *arguments):
    """The settings that a call changes, so that a test sees the ones it did not mean as well."""
    before = dict(script.settings)
    after = call(*arguments)
    return {name: value for name, value in after.items() if (value, type(value)) != (before[name], type(before[name]))}


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
    (['one.py', 'two.py'], 2), (['two.py', 'one.py'], 1), (['one.py', '--top_k=3'], 3), (['--top_k=3', 'one.py'], 1),
    (['--top_k=3', '--top_k=4'], 4), (['--top_k=3', 'one.py', '--top_k=4', 'two.py'], 2)])
def test_the_later_of_two_arguments_wins(script, arguments, expected):
    script.write('top_k = 1', 'one.py')
    script.write('top_k = 2', 'two.py')
    assert script.run(*arguments)['top_k'] == expected


# --- values on the command line

@pytest.mark.parametrize('text, expected', [
    ('a=b=c', 'a=b=c'), ('', ''), ('5', '5'), ('True', 'True'), ('None', 'None'), ('Cats, cats', 'Cats, cats'),
    ('--x', '--x'), (r'\nCats\nare', '\nCats\nare'), ('\nCats', '\nCats'), (r'a\tb', r'a\tb'),
    ("'Cats'", 'Cats'), ('"Cats"', 'Cats'), (r"'\nCats\t'", '\nCats\t'), (r"'a\\nb'", r'a\nb'), ("'It\\'s'", "It's"),
    ("It's", "It's"), ("'", "'"), ("''", ''), ("'a' or 'b'", "'a' or 'b'"), ("'a' 'b'", "'a' 'b'"),
    ("'Cats\"", "'Cats\""),
    ('"Hi," she said', '"Hi," she said'), ('Katzen über Mäuse', 'Katzen über Mäuse')])
def test_a_text_is_taken_as_it_stands_except_for_backslash_n_and_quotes_around_all_of_it(script, text, expected):
    assert changed(script, script.run, f'--memory_text={text}', '--start=x') == {'start': 'x'} | (
        {'memory_text': expected} if expected else {})


def test_a_value_may_contain_equals_signs(script):
    assert script.run('--start=1+1=2')['start'] == '1+1=2'


@pytest.mark.parametrize('argument, expected', [
    ('--temperature=1', 1.0), ('--temperature=1e-3', 0.001), ('--temperature=-0.5', -0.5), ('--top_k=0', 0),
    ('--top_k=-1', -1), ('--memory_layers=5', (5,)), ('--memory_layers=(5,)', (5,)), ('--memory_layers=5,6', (5, 6)),
    ('--memory_layers=[5, 6]', (5, 6)), ('--memory_layers=()', ()), ('--memory_layers=[]', ()),
    *[(f'--verbose={text}', True) for text in ('True', 'true', '1')],
    *[(f'--compare_plain={text}', False) for text in ('False', 'false', '0')]])
def test_a_value_gets_the_type_of_its_setting(script, argument, expected):
    name = argument[2:].partition('=')[0]
    assert changed(script, script.run, argument) == {name: expected}


WRONG = [('temperature', 'hot'), ('temperature', True), ('temperature', None), ('temperature', (1.0,)), ('top_k', 5.0),
         ('top_k', True), ('bookkeeping_tokens', True), ('top_k', '5'), ('top_k', (5,)),
         ('verbose', 2), ('verbose', 1.0), ('verbose', 'yes'),
         ('memory_layers', 5.0), ('memory_layers', True), ('memory_layers', (5, 6.0)), ('memory_layers', (True,)),
         ('memory_layers', ((5,),)), ('memory_layers', {'a': 5}), ('temperature', 10**400)]


@pytest.mark.parametrize('name, value', [*WRONG, ('start', 5), ('start', True), ('start', ('a',)), ('start', b'a')])
def test_a_wrong_type_in_a_file_names_setting_value_type_and_an_example(script, error_of, name, value):
    what, example = KINDS[type(script.settings[name])]
    assert error_of(script.config, f'{name} = {value!r}') == (
        f'cats.py: {name} was given {value!r} ({type(value).__name__}), expected {what}, for example {name}={example}')


@pytest.mark.parametrize('name, value', WRONG)
def test_a_wrong_type_on_the_command_line_names_setting_value_type_and_an_example(script, error_of, name, value):
    what, example = KINDS[type(script.settings[name])]
    assert error_of(script.run, f'--{name}={value!r}') == (
        f'{name} was given {value!r} ({type(value).__name__}), expected {what}, for example {name}={example}')


@pytest.mark.parametrize('text', ['', 'abc', '1 2', '(', '[1', 'a.b', '__import__("os")', '{[]: 1}', '(' * 300,
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
def test_an_unknown_name_on_the_command_line_is_an_error_with_the_nearest_setting(script, error_of, argument, message):
    assert error_of(script.run, argument) == message


def test_a_flag_without_a_value_is_told_how_to_be_written(script, error_of):
    assert error_of(script.run, '--verbose') == (
        '--verbose has no value: write --verbose=VALUE, for example --verbose=True')


def test_a_value_after_a_space_is_told_to_stand_behind_an_equals_sign(script, error_of):
    assert error_of(script.run, '--top_k', '5') == '--top_k has no value: write --top_k=VALUE, for example --top_k=5'


@pytest.mark.parametrize('argument', ['top_k=5', '-top_k=5'])
def test_a_setting_without_its_two_dashes_is_told_how_to_be_written(script, error_of, argument):
    assert error_of(script.run, argument) == f'no config file {argument}, did you mean --top_k=VALUE?'


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
    ('top_k = 3\r\nverbose = True\r\n', {'top_k': 3, 'verbose': True}), ('del top_k', {}),
    ('def memory_layer(): pass', {}),
    ('import os as memory_layer', {}), ('class temperatur: pass', {}), ('_memory_layer = 5', {}), ('zebra = [5]', {})])
def test_a_config_file_is_python_that_starts_from_the_current_settings(script, text, expected):
    assert changed(script, script.config, text) == expected


def test_a_config_file_sees_what_came_before_it_and_nothing_else_of_the_script(script):
    assert script.run('--top_k=3', script.write('top_k = top_k + 1'))['top_k'] == 4
    names = script.config("start = ' '.join(sorted(name for name in globals() if name != '__builtins__'))")['start']
    assert names.split() == sorted(script.run())


def test_a_helper_of_one_config_file_is_not_seen_by_the_next(script, error_of):
    script.write('zebra = 5', 'one.py')
    script.write('top_k = zebra', 'two.py')
    assert error_of(script.run, 'one.py', 'two.py') == "two.py, line 1: NameError: name 'zebra' is not defined"


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
    ('open("none.txt")', "cats.py, line 1: FileNotFoundError: [Errno 2] No such file or directory: 'none.txt'")])
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
        "config file 'loop.py' cannot be read (Too many levels of symbolic links), expected a Python file in UTF-8")


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

@pytest.mark.parametrize('arguments', [['--help'], ['-h'], ['none.py', '--zebra=1', '--help'], ['--top_k=5', '-h']])
def test_help_prints_the_docstring_and_the_settings_block_as_it_stands_in_the_source(script, capsys, arguments):
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
    assert capsys.readouterr().out.startswith('# what to write\nstart = ')


def test_help_of_a_script_without_rulers_is_an_error(script, error_of):
    script.settings['__file__'] = script.write('top_k = 5\n# -----\n', 'bare.py')
    assert error_of(script.run, '-h') == (
        "bare.py has no settings block, expected one between two lines '# -----'")


# --- errors in one line

def fail(error):
    with one_line_errors():
        raise error


@pytest.mark.parametrize('error, message, code', [
    (ValueError('memory holds 12 heads'), 'memory holds 12 heads', 1),
    (ValueError('one\n  two\r\n\nthree\n'), 'one two three', 1),
    (ValueError(), 'ValueError', 1), (FileNotFoundError('no memory file cats'), 'no memory file cats', 1),
    (FileNotFoundError(errno.ENOENT, 'No such file', 'cats.txt'), "[Errno 2] No such file: 'cats.txt'", 1),
    (PermissionError(errno.EACCES, 'Permission denied', 'x'), "[Errno 13] Permission denied: 'x'", 1),
    (OSError(errno.ENOSPC, 'No space left on device', 'cats.bin'),
     'the disk is full, cats.bin could not be written: free some space and run this again', 1),
    (OSError(errno.ENOSPC, 'No space left on device'),
     'the disk is full, a file could not be written: free some space and run this again', 1),
    (KeyboardInterrupt(), 'interrupted', 130)])
def test_what_a_user_can_cause_ends_in_one_line_and_its_exit_code(error_of, error, message, code):
    assert error_of(fail, error, code=code) == message


@pytest.mark.parametrize('error', [TypeError('a bug'), KeyError('a'), RuntimeError(), AssertionError(), SystemExit(7)])
def test_a_bug_keeps_its_traceback_and_an_exit_its_code(error):
    with pytest.raises(type(error)) as raised:
        fail(error)
    assert raised.value is error


def test_a_job_without_errors_prints_nothing_and_goes_on(capsys):
    with one_line_errors():
        done = True
    assert done and capsys.readouterr() == ('', '')


# --- names of the original project

@pytest.mark.parametrize('text, expected', [
    ('mem_frac = 0.5', {'memory_fraction': 0.5}), ('bookkeeping_frac = 1', {'bookkeeping_fraction': 1.0}),
    ('knn_softmax_influence = 10', {'softmax_scale': 10.0}),
    ('remove_bookkeeping_token_mem_size = 3', {'bookkeeping_tokens': 3}),
    ('memory = "Cats."', {'memory_text': 'Cats.'}),
    ('unadulterated_gpt = False', {'compare_plain': False}), ('method_text = "x"', {'method_text': 'x'}),
    # which layers read, and how many neighbours
    ('knn_num = [0, 7, 0, 7]', {'memory_layers': (1, 3), 'memory_k': 7}),
    ('knn_num = (7,)', {'memory_layers': (0,), 'memory_k': 7}),
    ('knn_num = [0, 0]', {'memory_layers': ()}), ('knn_num = []', {'memory_layers': ()}),
    ('knn_num = 12 * [0]\nknn_num[9] = 3', {'memory_k': 3}),
    ('knn_num = {3: 7, 1: 7}', {'memory_layers': (1, 3), 'memory_k': 7}),
    ('knn_num = {3: 7, 1: 0}', {'memory_layers': (3,), 'memory_k': 7}),
    ('knn_num = [[0, 0], [7, 7]]', {'memory_layers': (1,), 'memory_k': 7}),
    ('knn_num = {2: [7, 7]}', {'memory_layers': (2,), 'memory_k': 7}),
    ('knn_num = [0, [7, 7]]', {'memory_layers': (1,), 'memory_k': 7}),
    # how the found values are blended; 2 is the default of the script
    ('resid_only = True', {}), ('resid_only = True\nresid_frac = 0.3', {'residual_fraction': 0.3}),
    ('resid_only = False\nresid_frac = 0.3', {'memory_method': 3, 'residual_fraction': 0.3}),
    ('resid_only = False\nresid_frac = 0.0', {'memory_method': 1, 'residual_fraction': 0.0}),
    ('resid_only = False', {'memory_method': 1}), ('resid_frac = 0.3', {'memory_method': 3, 'residual_fraction': 0.3}),
    ('resid_frac = 0', {'memory_method': 1, 'residual_fraction': 0.0}),
    # where the memory is kept
    ('load_mem_store = True\nmem_store = "stores/cats"', {'memory_file': 'stores/cats'}),
    ('store_mem = True\nmem_store = "stores/cats"', {'memory_file': 'stores/cats.safetensors'}),
    ('store_mem = True\nmem_store = "stores/cats/"\nmemory = "Cats."',
     {'memory_file': 'stores/cats.safetensors', 'memory_text': 'Cats.'}),
    ('load_mem_store = True\nmem_store = "stores/cats"\nmemory = "Cats."', {'memory_file': 'stores/cats'}),
    ('load_mem_store = store_mem = True\nmem_store = "stores/cats"', {'memory_file': 'stores/cats'}),
    ('load_mem_store = False\nstore_mem = False\nmem_store = "stores/cats"', {'memory_file': ''}),
    ('load_mem_store = False', {'memory_file': ''}), ('mem_store = "stores/cats"', {'memory_file': ''})])
def test_an_old_name_in_a_config_file_becomes_its_setting(script, text, expected):
    assert changed(script, script.config, text) == expected


def test_a_setting_wins_over_an_old_name_in_its_file_even_where_it_repeats_the_default(script):
    assert script.config('knn_num = [0, 7]\nmemory_k = 5')['memory_k'] == 5


def test_loading_an_old_store_forgets_the_text_that_an_earlier_source_gave(script):
    config = script.run('--memory_text=Cats.', '--load_mem_store=True', '--mem_store=stores/cats')
    assert (config['memory_file'], config['memory_text']) == ('stores/cats', '')


@pytest.mark.parametrize('arguments, expected', [
    (['--mem_frac=1'], {'memory_fraction': 1.0}), ([r'--memory=\nCats=fun'], {'memory_text': '\nCats=fun'}),
    (['--memory=5'], {'memory_text': '5'}), (['--unadulterated_gpt=false'], {'compare_plain': False}),
    (['--knn_num=[0,7]'], {'memory_layers': (1,), 'memory_k': 7}),
    (['--knn_num={3:7}'], {'memory_layers': (3,), 'memory_k': 7}),
    (['--resid_frac=0.3', '--top_k=1', '--resid_only=false'],
     {'residual_fraction': 0.3, 'top_k': 1, 'memory_method': 3}),
    (['--mem_store=5', '--store_mem=1'], {'memory_file': '5.safetensors'})])
def test_an_old_name_on_the_command_line_becomes_its_setting(script, arguments, expected):
    assert changed(script, script.run, *arguments) == expected


@pytest.mark.parametrize('arguments, fraction', [
    (['old.py', '--memory_fraction=0.2'], 0.2), (['--memory_fraction=0.2', 'old.py'], 0.5), (['old.py', 'new.py'], 0.3),
    (['--mem_frac=0.1', '--memory_fraction=0.2'], 0.2), (['--memory_fraction=0.2', '--mem_frac=0.1'], 0.1),
    (['both.py'], 0.3),
    (['--mem_frac=0.1', '--memory_fraction=0.2', '--mem_frac=0.3'], 0.3)])
def test_old_and_new_names_keep_the_order_in_which_they_are_given(script, arguments, fraction):
    script.write('mem_frac = 0.5', 'old.py')
    script.write('memory_fraction = 0.3', 'new.py')
    script.write('memory_fraction = 0.3\nmem_frac = 0.5', 'both.py')
    assert script.run(*arguments)['memory_fraction'] == fraction


def test_an_old_name_in_one_source_decides_without_those_of_another(script):
    script.write('resid_only = True', 'old.py')
    assert script.run('old.py', '--resid_frac=0.3')['memory_method'] == 3
    assert script.run('--resid_frac=0.3', 'old.py')['memory_method'] == 2


EXAMPLES = {'mem_frac': 0.5, 'bookkeeping_frac': 0.5, 'knn_softmax_influence': 0.5, 'resid_frac': 0.5, 'memory': 'x',
            'remove_bookkeeping_token_mem_size': 3, 'unadulterated_gpt': True, 'resid_only': True, 'knn_num': [1],
            'mem_store': 'x', 'load_mem_store': False, 'store_mem': False}


@pytest.mark.parametrize('name', OLD_NAMES)
def test_an_old_name_translates_into_no_other_settings_than_the_table_says(name):
    decided = translate_old_names({name: EXAMPLES[name]}).keys()
    assert decided and decided <= OLD_NAMES[name]


@pytest.mark.parametrize('name', OLD_NAMES)
def test_an_old_name_is_a_helper_in_a_script_without_the_new_setting(script, name):
    script.without(*NEW_NAMES_OF_MEMORY)
    assert changed(script, script.config, f'{name} = None') == {}


@pytest.mark.parametrize('name', OLD_NAMES)
def test_an_old_name_on_the_command_line_of_a_script_without_the_new_setting_is_unknown(script, error_of, name):
    script.without(*NEW_NAMES_OF_MEMORY)
    assert error_of(script.run, f'--{name}=1').startswith(f'unknown setting --{name}, ')


def test_a_setting_that_is_called_like_an_old_name_is_not_translated(script):
    script.settings['memory'] = 1
    assert changed(script, script.config, 'memory = 2') == {'memory': 2}


@pytest.mark.parametrize('text, start', [
    ('mem_frac = "half"', "memory_fraction (from mem_frac) was given 'half' (str), expected a float"),
    ('memory = 5', 'memory_text (from memory) was given 5 (int), expected a str'),
    ('unadulterated_gpt = 2', 'compare_plain (from unadulterated_gpt) was given 2 (int), expected a bool'),
    ('remove_bookkeeping_token_mem_size = 1.0',
     'bookkeeping_tokens (from remove_bookkeeping_token_mem_size) was given 1.0'),
    ('resid_only = "False"', "resid_only was given 'False' (str), expected a bool"),
    ('resid_frac = "x"', "resid_frac was given 'x' (str), expected a float"),
    ('mem_store = 5', 'mem_store was given 5 (int), expected a str'),
    ('store_mem = 5', 'store_mem was given 5 (int), expected a bool'),
    ('load_mem_store = "yes"', "load_mem_store was given 'yes' (str), expected a bool"),
    ('load_mem_store = True',
     'load_mem_store and store_mem need a folder, for example mem_store=stores/cats beside them'),
    ('store_mem = True\nmem_store = ""', 'load_mem_store and store_mem need a folder'),
    ('knn_num = [5, 6]', 'knn_num was given [5, 6], but one k for all layers and heads is supported'),
    ('knn_num = {1: 5, 2: 6}', 'knn_num was given {1: 5, 2: 6}, but one k for all layers'),
    ('knn_num = [[5, 0], [0, 0]]', 'knn_num was given [[5, 0], [0, 0]], but one k for all layers'),
    *[(f'knn_num = {value}', f'knn_num was given {value}, expected an int a layer, for example knn_num=[0,5]')
      for value in ('5', 'None', "'5'", '[5.0]', '[True]', "{'a': 5}", '[[[5]]]', '[None]')]])
def test_an_old_name_with_a_value_that_has_no_translation_is_an_error(script, error_of, text, start):
    assert error_of(script.config, text).startswith(f'cats.py: {start}')


# --- cost

def test_importing_the_configurator_is_cheap_and_needs_the_standard_library_alone():
    code = ('import sys; before = set(sys.modules); import configurator; '
            'new = {name.partition(".")[0] for name in set(sys.modules) - before}; '
            'print(sorted(new - set(sys.stdlib_module_names)))')
    result = subprocess.run([sys.executable, '-S', '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "['configurator']\n"
