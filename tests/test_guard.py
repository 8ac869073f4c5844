"""
How scripts end: errors in one line, Ctrl-C at any time, a closed pipe, output that cannot be encoded.

    $ pytest tests/test_guard.py
"""
import ast
import errno
import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from configurator import one_line_errors


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
    (MemoryError(),
     'there is not enough memory for this: ask for fewer texts at once, or take a smaller model', 1),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
     'there is not enough memory for this: ask for fewer texts at once, or take a smaller model', 1),
    (KeyboardInterrupt(), 'interrupted', 130)])
def test_what_a_user_can_cause_ends_in_one_line_and_its_exit_code(error_of, error, message, code):
    assert error_of(fail, error, code=code) == message


@pytest.mark.parametrize('error', [TypeError('a bug'), KeyError('a'), RuntimeError(), AssertionError(),
                                   SystemExit(7)])
def test_a_bug_keeps_its_traceback_and_an_exit_its_code(error):
    with pytest.raises(type(error)) as raised:
        fail(error)
    assert raised.value is error


def test_a_job_without_errors_prints_nothing_and_goes_on(capsys):
    with one_line_errors():
        done = True
    assert done and capsys.readouterr() == ('', '')


def test_an_interrupted_script_says_how_to_go_on_where_it_can(error_of):
    def interrupted():
        with one_line_errors('run again to go on'):
            raise KeyboardInterrupt
    assert error_of(interrupted, code=130) == 'interrupted: run again to go on'


# --- whole scripts, in processes of their own

TOP = """
import sys
sys.path.insert(0, {root!r})
from configurator import configure, one_line_errors
# -----
again = ''
# -----
configure(globals())
"""


@pytest.fixture
def start(tmp_path):
    """start(code, ...) -> a process that runs these lines below a settings block."""
    def start(code, *arguments, **options):
        path = tmp_path / 'script.py'
        path.write_text(TOP.format(root=ROOT) + code)
        return subprocess.Popen([sys.executable, path, *arguments], stderr=subprocess.PIPE, text=True,
                                **options)
    return start


SLOW_IMPORT = """
import time
try:  # as the imports of C libraries do, some of which wrap what is raised in them and some of which lose it
    print('importing', file=sys.stderr, flush=True)
    time.sleep(60)
except BaseException as e:
    raise ImportError('initialization failed') from e
"""


def test_ctrl_c_while_a_script_imports_is_one_line(start):
    process = start(SLOW_IMPORT)
    assert process.stderr.readline() == 'importing\n'
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == 'error: interrupted\n'
    assert process.returncode == 130


@pytest.mark.parametrize('imported', ['ast', 'traceback', 'difflib', 'pathlib'])
def test_ctrl_c_while_the_settings_import_is_one_line(start, tmp_path, imported):
    # beside the script, where Python looks before it looks among its own
    (tmp_path / f'{imported}.py').write_text('import sys' + SLOW_IMPORT)
    process = start('')
    assert process.stderr.readline() == 'importing\n'
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == 'error: interrupted\n'
    assert process.returncode == 130


def test_who_imports_the_settings_and_is_no_script_keeps_pythons_own_ctrl_c():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_the_job_cleans_up_and_is_one_line(start):
    process = start("""
import time
with one_line_errors(again):
    try:
        print('working', file=sys.stderr, flush=True)
        time.sleep(60)
    finally:
        print('cleaned up', file=sys.stderr)
""", '--again=go on so')
    assert process.stderr.readline() == 'working\n'
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == 'cleaned up\nerror: interrupted: go on so\n'
    assert process.returncode == 130


def test_the_line_comes_last_behind_a_progress_bar_that_was_under_way(start):
    process = start("""
from tqdm import tqdm
def job(step):
    if step == 3:
        raise ValueError('step 3 failed')
with one_line_errors():
    [job(step) for step in tqdm(range(9))]
""")
    assert process.communicate()[1].endswith('\nerror: step 3 failed\n')


@pytest.mark.parametrize('unbuffered', ['', '1'])
@pytest.mark.parametrize(('lines', 'arguments'), [(3, []), (100_000, []), (3, ['--help'])])
def test_a_closed_pipe_ends_a_script_quietly_as_other_tools(start, lines, arguments, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    process = start(f"with one_line_errors():\n    for _ in range({lines}): print('Cats are kind.')",
                    *arguments, stdout=writing, env=os.environ | {'PYTHONUNBUFFERED': unbuffered})
    os.close(writing)
    assert process.communicate()[1] == ''
    assert process.returncode == 141


@pytest.mark.parametrize('unbuffered', ['', '1'])
@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full on this system')
def test_output_to_a_full_disk_is_one_line(start, unbuffered):
    with open('/dev/full', 'w') as full:
        process = start("with one_line_errors():\n    print('Cats are kind.')", stdout=full,
                        env=os.environ | {'PYTHONUNBUFFERED': unbuffered})
    err = process.communicate()[1]
    assert (process.returncode, err.count('\n')) == (1, 1)
    assert err.startswith('error: the disk is full')


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full on this system')
@pytest.mark.parametrize(('where', 'code', 'lines'), [('a closed pipe', 141, 0), ('a full disk', 1, 1)])
def test_the_demonstration_of_the_grammar_ends_as_the_other_scripts_do(where, code, lines):
    reading, pipe = os.pipe()
    os.close(reading)
    with open('/dev/full', 'w') as full, open(pipe, 'w') as closed:
        done = subprocess.run([sys.executable, os.path.join(ROOT, 'data', 'tinyworld', 'grammar.py')],
                              stdout=full if where == 'a full disk' else closed, stderr=subprocess.PIPE,
                              text=True)
    assert (done.returncode, done.stderr.count('\n')) == (code, lines), done.stderr


@pytest.mark.parametrize(('job', 'code'), [
    ("print('Cats are kind.')", 0), ("raise ValueError('no cats')", 1), ("raise KeyboardInterrupt", 130),
    ("print('Cats', file=sys.stderr); list(__import__('tqdm').tqdm([1]))", 0)])
@pytest.mark.parametrize('closed', ['>&-', '2>&-', '>&- 2>&-', '<&- >&- 2>&-'])
def test_a_script_whose_streams_are_closed_ends_as_with_open_ones(tmp_path, job, code, closed):
    path = tmp_path / 'script.py'
    path.write_text(TOP.format(root=ROOT) + f'with one_line_errors():\n    {job}')
    done = subprocess.run(f'exec {sys.executable} {path} {closed}', shell=True, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == code, done.stderr
    assert 'Traceback' not in done.stderr
    assert '2>&-' not in closed or 'error' not in done.stdout


@pytest.mark.parametrize('encoding', ['cp1252', 'latin-1', 'ascii', 'utf-8'])
def test_output_that_cannot_be_encoded_is_shown_as_escapes(start, encoding):
    process = start("with one_line_errors():\n    print('one \\U0001f642 \\ufffd \\udcff two')",
                    stdout=subprocess.PIPE,
                    env=os.environ | {'PYTHONIOENCODING': encoding})
    out, err = process.communicate()
    assert (process.returncode, err) == (0, '')
    shown = '\\U0001f642 \\ufffd' if encoding != 'utf-8' else '\U0001f642 \ufffd'
    assert out == f'one {shown} \\udcff two\n'


@pytest.mark.parametrize('script', ['sample.py', 'build_memory.py', 'evaluate.py', 'train.py', 'bench.py',
                                    'data/tinyworld/prepare.py'])
def test_every_script_is_guarded_before_its_first_slow_import_and_around_its_job(script):
    with open(os.path.join(ROOT, script)) as f:
        tree = ast.parse(f.read())
    calls = [node.value.func.id for node in tree.body if isinstance(node, (ast.Expr, ast.Assign))
             and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)]
    assert calls[0] == 'configure'
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [getattr(node, 'module', None) or node.names[0].name]
            if names == ['configurator']:
                break
            assert names[0].split('.')[0] in sys.stdlib_module_names
    assert 'one_line_errors' in ast.dump(tree.body[-1])
