"""
build_memory.py as a user runs it: libraries and files, added to, listed, forgotten from, merged, interrupted,
and shared out over Ray.

$ python -m pytest tests/test_build_memory.py
"""
import contextlib
import functools
import glob
import os
import signal
import subprocess
import sys
import time
import types

import pytest
import torch
from conftest import ROOT

from core import library
from load import load_model
from memory import PersistentMemory

TEXTS = {'a.txt': 'Cats are lovely.', 'b.md': 'Dogs are kind.', 'c.txt': 'The mayor of town 5 is old. ' * 12,
         'd.txt': 'Trains are good.'}
CUT = '--window_tokens=40', '--window_overlap=8'
OF_A_LIBRARY = '--memory_layers=()', '--index_heads=((0,1),(2,0))', *CUT
KINDS = {'values': OF_A_LIBRARY, 'tokens': (*OF_A_LIBRARY, '--keep=tokens'),
         'half': (*OF_A_LIBRARY, '--memory_dtype=bfloat16'), 'no index': ('--memory_layers=0,2', *CUT)}


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """The current folder, with one of texts in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'notes').mkdir()
    for name, text in TEXTS.items():
        (tmp_path / 'notes' / name).write_text(text)
    return tmp_path


def build(run, *arguments, path='all'):
    code, out, err = run('build_memory.py', '--threads=1', f'--memory_file={path}', *arguments)
    assert (code, err) == (0, ''), err
    return out


def error_of(run, *arguments, path='all'):
    code, out, err = run('build_memory.py', '--threads=1', f'--memory_file={path}', *arguments)
    assert code == 1 and err.count('\n') == 1 and err.startswith('error: '), err
    return err


def loaded(folder, path):
    model, _ = load_model(folder)
    return PersistentMemory.load(path, model)


def check_same(memory, other):
    """The same texts in the same order, and the same rows, forgotten ones aside."""
    assert (memory.description(), memory.tokens.tolist()) == (other.description(), other.tokens.tolist())
    lives = [one.held.live.tolist() for one in (memory, other)]
    assert [memory.texts[n] for n in lives[0]] == [other.texts[n] for n in lives[1]]
    for key in memory.held.parts:
        a, b = (one.held.of_texts(*key, live) for one, live in zip((memory, other), lives))
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_a_folder_of_texts_becomes_a_file_or_a_library_with_the_same_in_it(run, notes, folder, kind):
    for path in ('all', 'all.safetensors'):
        out = build(run, '--text=FILE:notes', *KINDS[kind], path=path)
        assert f'{path}: ' in out and ' texts, ' in out and 'FILE:notes/c.txt 0-' in out
    memory = loaded(folder, 'all')
    check_same(memory, loaded(folder, 'all.safetensors'))
    sources = [text['source'] for text in memory.texts]
    assert list(dict.fromkeys(sources)) == [f'FILE:notes/{name}' for name in TEXTS]
    assert sources.count('FILE:notes/c.txt') > 2
    assert memory.keep == ('tokens' if kind == 'tokens' else 'values')
    assert memory.layers == {'tokens': (), 'no index': (0, 2)}.get(kind, (0, 1, 2))


@pytest.mark.parametrize('path', ['all', 'all.safetensors'])
def test_what_is_appended_makes_the_same_as_all_at_once_and_what_is_there_is_passed_over(
        run, notes, folder, path):
    build(run, '--text=FILE:notes', *OF_A_LIBRARY, path='whole.safetensors')
    for text in ('FILE:notes/[ab]*', 'FILE:notes/[a-c]*', 'FILE:notes'):
        out = build(run, f'--text={text}', *OF_A_LIBRARY, '--append=True', path=path)
    passed = len(loaded(folder, path).texts) - 1
    assert f'{passed} of {passed + 1} texts are in {path} already: passed over' in out
    check_same(loaded(folder, path), loaded(folder, 'whole.safetensors'))
    assert 'passed over' in build(run, '--text=FILE:notes', *OF_A_LIBRARY, '--append=True', path=path)
    assert len(loaded(folder, path).texts) == passed + 1


def test_an_append_is_of_the_librarys_kind_which_is_said(run, notes, folder):
    build(run, '--text=FILE:notes/a.txt', *OF_A_LIBRARY)
    code, _, err = run('build_memory.py', '--memory_file=all', '--text=FILE:notes/d.txt', '--append=True')
    assert code == 0 and err.splitlines() == [
        'all was built with memory_layers=(0, 1, 2), and what is added is too: not (9,)',
        'all was built with index_heads=((0, 1), (2, 0)), and what is added is too: not ()']
    assert len(loaded(folder, 'all').texts) == 2


def test_texts_behind_another_header_are_refused_before_any_work(run, notes):
    build(run, '--text=FILE:notes/a.txt', *OF_A_LIBRARY)
    message = error_of(run, '--text=FILE:notes/d.txt', *OF_A_LIBRARY, '--append=True', '--memory_prefix=The ')
    assert "the texts of all stand behind '\\n', these would behind 'The" in message


def test_what_is_appended_is_shown_last_by_the_numbers_that_forget_takes(run, notes, folder):
    for n in range(12):
        (notes / 'notes' / 'd.txt').write_text(f'Cats {n}.')
        out = build(run, '--text=FILE:notes/d.txt', *OF_A_LIBRARY, '--append=True')
        build(run, '--forget=0' if n == 0 else '--list=True')
    shown = [line for line in out.splitlines() if 'tokens  FILE:' in line]
    assert [line.split()[0] for line in shown] == [str(n) for n in range(2, 12)]
    assert "'Cats 11.'" in shown[-1] and '  and before them 1 text; the newest:' in out
    build(run, '--forget=11')
    assert 11 in loaded(folder, 'all').forgotten


@pytest.mark.parametrize('first, then, theirs', (
    ('', '\n', "have none behind them, these would have '\\n'"),
    ('\n', '', "have an ending behind them, these would have ''")))
def test_texts_with_another_ending_are_refused_before_any_work(run, notes, folder, first, then, theirs):
    build(run, '--text=FILE:notes/a.txt', *OF_A_LIBRARY, f'--memory_ending={first}')
    arguments = '--text=FILE:notes/d.txt', *OF_A_LIBRARY, '--append=True'
    message = error_of(run, *arguments, f'--memory_ending={then}')
    assert f'the texts of all {theirs}: give the memory_ending' in message
    assert len(loaded(folder, 'all').texts) == 1
    build(run, *arguments, f'--memory_ending={first}')
    assert len(loaded(folder, 'all').texts) == 2


@pytest.mark.parametrize('path', ['all', 'all.safetensors'])
def test_a_memory_is_listed_forgotten_from_and_compacted_without_its_model(
        run, notes, folder, path, monkeypatch):
    build(run, '--text=FILE:notes', *OF_A_LIBRARY, path=path)
    count = len(loaded(folder, path).texts)
    monkeypatch.setattr('load.load_model', None)
    lines = build(run, '--list=True', path=path).splitlines()
    assert len(lines) == count + 1 and "'Cats are lovely.'" in lines[0] and lines[0].split()[0] == '0'
    out = build(run, f'--forget=0,{count - 1}', path=path)
    stay = 'stay on the disk until --compact=True' if path == 'all' else 'are in the file no more'
    assert f'2 texts are forgotten, recalled no more, and the words {stay}' in out
    assert f'{count - 2} texts' in out
    build(run, '--forget=FILE:notes/c.txt', path=path)
    if path == 'all':
        assert build(run, '--list=True').count('(forgotten)') == count - 1
        assert f'{count - 1} texts are gone that had been forgotten' in build(run, '--compact=True')
    assert "'Dogs are kind.'" in build(run, '--list=True', path=path)
    assert [text['text'] for text in loaded(folder, path).texts] == ['Dogs are kind.']
    assert "no text is from 'nobody'" in error_of(run, '--forget=nobody', path=path)


def test_two_memories_are_merged(run, notes, folder):
    build(run, '--text=FILE:notes', *OF_A_LIBRARY, path='whole.safetensors')
    build(run, '--text=FILE:notes/[ab]*', *OF_A_LIBRARY)
    build(run, '--text=FILE:notes/[cd]*', *OF_A_LIBRARY, path='more')
    assert 'texts of more are added' in build(run, '--merge=more')
    check_same(loaded(folder, 'all'), loaded(folder, 'whole.safetensors'))
    count, more = len(loaded(folder, 'all').texts), len(loaded(folder, 'more').texts)
    build(run, '--forget=0')  # what is forgotten may come again
    build(run, '--text=FILE:notes/a*', *OF_A_LIBRARY, '--append=True', path='more')
    out = build(run, '--merge=more')
    assert f'{more} of {more + 1} texts are in all already: passed over' in out
    assert '1 text of more is added' in out and len(loaded(folder, 'all').held.live) == count
    assert len(loaded(folder, 'more').held.live) == more + 1  # it stays as it was
    build(run, '--text=FILE:notes/[cd]*', '--memory_layers=1', path='other.safetensors')
    error = error_of(run, '--merge=other.safetensors')
    assert 'other.safetensors cannot be merged into all: the memories differ in index_heads' in error


def test_what_would_be_replaced_is_refused_and_what_is_no_library_stays(run, notes):
    build(run, '--text=FILE:notes/a.txt', *OF_A_LIBRARY)
    assert 'all exists: name another memory_file, add --append=True' in error_of(run, '--text=Cats.')
    assert 'is a folder, which is not replaced' in error_of(run, '--text=Cats.', '--overwrite=True')
    assert 'is a folder of other files' in error_of(run, '--text=Cats.', '--append=True', path='notes')
    assert 'no memory' in error_of(run, '--list=True', path='none.safetensors')
    assert "engine is 'rays', expected one of 'process', 'ray'" in error_of(run, '--engine=rays')
    assert "which writes a library" in error_of(run, '--engine=ray', '--text=Cats.', path='x.safetensors')
    assert sorted(os.listdir('notes')) == [*TEXTS]


def check_goes_on(run, folder, arguments):
    """Two segments of a build are there; it goes on behind them, to what an uninterrupted one makes."""
    segments = [segment.file for segment in library.read('all').segments]
    assert len(segments) == 2
    assert 'already: passed over' in build(run, *arguments, '--append=True')
    assert [segment.file for segment in library.read('all').segments[:2]] == segments
    build(run, *arguments, path='whole')
    check_same(loaded(folder, 'all'), loaded(folder, 'whole'))
    held = [[segment.texts for segment in library.read(path).segments] for path in ('all', 'whole')]
    assert held[0] == held[1] and len(held[0]) > 3


def test_an_interrupted_build_of_a_library_goes_on_where_it_was(run, notes, folder, monkeypatch):
    arguments = ['--text=FILE:notes', *OF_A_LIBRARY, '--threads=1']
    monkeypatch.setattr('lab.shares.TOKENS_A_SHARE', 40)
    append = library.append

    def appended(*given):
        append(*given)
        if len(library.read('all').segments) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(library, 'append', appended)
        code, _, err = run('build_memory.py', *arguments, '--memory_file=all')
    assert code == 130
    assert err == 'error: interrupted: what is remembered stays, add --append=True to go on\n'
    check_goes_on(run, folder, arguments)


KILLED = """
import os, runpy, signal, sys
sys.path.insert(0, {root!r})
import lab.shares
from core import library
lab.shares.TOKENS_A_SHARE, append = 40, library.append
def appended(*given):
    append(*given)
    if len(library.read('all').segments) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
library.append = appended
sys.argv = ['build_memory.py', *{arguments!r}]
runpy.run_path({root!r} + '/build_memory.py', run_name='__main__')
"""


def test_a_build_that_is_killed_goes_on_where_it_was(run, notes, folder, monkeypatch):
    arguments = ['--text=FILE:notes', *OF_A_LIBRARY, '--threads=1']
    code = KILLED.format(root=ROOT, arguments=[*arguments, '--memory_file=all', f'--init_from={folder}'])
    assert subprocess.run([sys.executable, '-c', code]).returncode == -signal.SIGKILL
    monkeypatch.setattr('lab.shares.TOKENS_A_SHARE', 40)
    check_goes_on(run, folder, arguments)


# ---- Ray ----

class FakeRay:
    """Ray's interface, as far as it is used; tasks run when they are got."""
    exceptions = types.SimpleNamespace(RayTaskError=type('RayTaskError', (Exception,), {}),
                                       RayError=type('RayError', (Exception,), {}))
    init = shutdown = staticmethod(lambda **given: None)
    cluster_resources = staticmethod(lambda: {'CPU': 2})
    get = staticmethod(lambda task: task())

    @staticmethod
    def remote(function):
        task = types.SimpleNamespace(remote=lambda *given: functools.partial(function, *given))
        return types.SimpleNamespace(options=lambda **given: task)


def test_texts_that_are_shared_out_become_the_library_of_one_process(run, notes, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', FakeRay)
    monkeypatch.setattr('lab.shares.TOKENS_A_SHARE', 40)
    for path, engine in (('all', 'ray'), ('whole', 'process')):
        build(run, '--text=FILE:notes', *OF_A_LIBRARY, f'--engine={engine}', path=path)
    check_same(loaded(folder, 'all'), loaded(folder, 'whole'))
    held = [[segment.texts for segment in library.read(path).segments] for path in ('all', 'whole')]
    assert held[0] == held[1] and len(held[0]) > 3
    much = '--text=Cats.', '--memory_layers=0', '--engine=ray', '--threads=3'
    assert 'a run takes 3 CPUs, the cluster has 2: give fewer --threads' in error_of(run, *much, path='x')


def ancestors(pid):
    found = []
    while pid > 1:
        with open(f'/proc/{pid}/stat') as f:
            pid = int(f.read().rpartition(')')[2].split()[1])
        found.append(pid)
    return found


def workers_of(build):
    """Processes that remember a share of this build now."""
    found = []
    for path in glob.glob('/proc/[0-9]*/cmdline'):
        with contextlib.suppress(OSError), open(path) as f:
            if f.read().startswith('ray::remember_share') and build in ancestors(int(path.split('/')[2])):
                found.append(int(path.split('/')[2]))
    return found


SMALL_SHARES = """
import runpy, sys
sys.path.insert(0, {root!r})
import lab.shares
lab.shares.TOKENS_A_SHARE = 200
sys.argv = ['build_memory.py', *{arguments!r}]
runpy.run_path({root!r} + '/build_memory.py', run_name='__main__')
"""


@pytest.mark.slow
def test_ray_builds_the_same_library_though_a_worker_is_killed(run, notes, folder):
    pytest.importorskip('ray', reason='Ray is not installed: pip install -r requirements-ray.txt')
    (notes / 'notes' / 'many.txt').write_text('The mayor of town 5 is old. ' * 400)
    arguments = ['--text=FILE:notes', *OF_A_LIBRARY, '--threads=1']
    script = [*arguments, '--memory_file=all', f'--init_from={folder}', '--engine=ray']
    code = SMALL_SHARES.format(root=ROOT, arguments=script)
    started = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    killed = set()
    while started.poll() is None:
        for worker in workers_of(started.pid):
            if not killed and library.is_library('all'):
                os.kill(worker, signal.SIGKILL)
                killed.add(worker)
        time.sleep(0.01)
    _, err = started.communicate()
    assert started.returncode == 0, err
    assert run('build_memory.py', *arguments, '--memory_file=whole')[0] == 0
    check_same(loaded(folder, 'all'), loaded(folder, 'whole'))
    assert killed
