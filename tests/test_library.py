"""
Libraries: folders of memory files that are appended to, forgotten from and compacted, by several at once,
and whatever happens in between.

$ python -m pytest tests/test_library.py
"""
import contextlib
import json
import os
import random
import shutil
import signal
import time

import pytest
import torch

from core import library, memory_file

ORIGIN = {'name': 'tiny', 'n_layer': 3, 'n_head': 2, 'n_kv_head': 2, 'head_size': 4, 'vocab_size': 48,
          'fingerprint': 'f00'}


def segment(*words, origin=ORIGIN, layers=(0, 2)):
    """A memory of a text a word, as many rows as it has letters; its numbers tell which word they are of."""
    rows = torch.tensor([float(ord(letter)) for word in words for letter in word])
    table = rows[None, :, None].expand(2, -1, 4).contiguous()
    tensors = {f'layers.{layer}.{kind}': table + layer for layer in layers for kind in ('keys', 'values')}
    texts = [{'source': f'of {word}', 'text': word, 'rows': len(word)} for word in words]
    metadata = {'origin': origin, 'tokenizer': 'bytes', 'layers': list(layers), 'bookkeeping_tokens': 1,
                'dtype': 'float32', 'keep': 'values', 'index_heads': [], 'header': []}
    return {**tensors, 'tokens': rows.long()}, {**metadata, 'texts': texts}


def words_of(folder):
    """All that is not forgotten, in order, once every number of it is checked."""
    found = []
    for one, (file, metadata) in zip(*library_of(folder)):
        tensors = memory_file.read_tensors(file, metadata, list(memory_file.shapes_of(metadata)))
        words = [text['text'] for text in metadata['texts']]
        expected, _ = segment(*words)
        assert {*tensors} == {*expected} and all(tensors[name].equal(w) for name, w in expected.items())
        assert (one.texts, one.rows) == (len(words), len(''.join(words)))
        found += [word for number, word in enumerate(words) if number not in one.forgotten]
    return found


def library_of(folder):
    manifest, files = library.opened(folder)
    return manifest.segments, files


def files_in(folder, hidden=False):
    return sorted(name for name in os.listdir(folder) if hidden or name[0] != '.')


def content(folder):
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


@pytest.fixture
def cats(tmp_path):
    """A library of five words in two segments."""
    library.append(tmp_path / 'cats', [segment('tom', 'felix')])
    library.append(tmp_path / 'cats', [segment('salem', 'azrael', 'mog')])
    return tmp_path / 'cats'


# ---- its life ----

def test_what_is_appended_stands_behind_what_was_there_and_each_segment_is_a_memory_file(cats):
    assert words_of(cats) == ['tom', 'felix', 'salem', 'azrael', 'mog']
    for one, words in zip(library.read(cats).segments, (['tom', 'felix'], ['salem', 'azrael', 'mog'])):
        texts = memory_file.read_description(memory_file.opened(cats / one.file))['texts']
        assert [text['text'] for text in texts] == words


def test_several_segments_are_appended_at_once_and_none_makes_no_library(tmp_path):
    library.append(tmp_path / 'new', iter([]))
    assert not library.is_library(tmp_path / 'new')
    library.append(tmp_path / 'new', (segment(word) for word in ('tom', 'felix')))
    assert library.is_library(tmp_path / 'new') and words_of(tmp_path / 'new') == ['tom', 'felix']


def test_appending_and_forgetting_leave_all_that_was_written_as_it_was(cats):
    before = content(cats)
    library.append(cats, [segment('tiger')])
    first = library.read(cats).segments[0].file
    library.forget(cats, {first: [1]})
    after = content(cats)
    assert all(after[name].startswith(before[name]) for name in before)
    assert len(after[library.MANIFEST]) < len(before[library.MANIFEST]) + 300
    assert words_of(cats) == ['tom', 'salem', 'azrael', 'mog', 'tiger']


def test_forgotten_words_are_on_the_disk_until_the_library_is_compacted(cats):
    first, second = library.read(cats).segments
    library.forget(cats, {first.file: [0, 1], second.file: [1]})
    before = content(cats)
    assert b'azrael' in before[second.file] and b'felix' in before[first.file]
    assert library.compact(cats) == 3
    assert not any(word in data for word in (b'azrael', b'felix', b'tom') for data in content(cats).values())
    assert words_of(cats) == ['salem', 'mog']
    assert len(files_in(cats)) == 2 and len(library.read(cats).segments) == 1


def test_compacting_leaves_a_segment_that_holds_nothing_forgotten_and_forgets_nothing_twice(cats):
    library.append(cats, [segment('tiger')])
    first, second, third = (one.file for one in library.read(cats).segments)
    library.forget(cats, {second: [0]})
    before = content(cats)
    assert library.compact(cats) == 1
    after = content(cats)
    assert (after[first], after[third]) == (before[first], before[third]) and second not in after
    assert words_of(cats) == ['tom', 'felix', 'azrael', 'mog', 'tiger']
    assert library.compact(cats) == 0 and content(cats) == after


def test_who_has_a_library_open_reads_on_while_it_is_compacted(cats):
    (first, _), files = library_of(cats)
    library.forget(cats, {first.file: [0]})
    library.compact(cats)
    assert not os.path.exists(cats / first.file)
    tokens = memory_file.read_tensors(*files[0], ['tokens'])['tokens']
    assert torch.equal(tokens, segment('tom', 'felix')[0]['tokens'])


def test_who_opens_a_library_while_it_is_compacted_reads_what_stands_then(cats, monkeypatch):
    old = library.read(cats)
    library.forget(cats, {old.segments[0].file: [0]})
    library.compact(cats)
    first, read = [old], library.read
    monkeypatch.setattr(library, 'read', lambda folder: first.pop() if first else read(folder))
    assert words_of(cats) == ['felix', 'salem', 'azrael', 'mog']


# ---- what is refused ----

def test_a_segment_of_another_model_or_kind_is_refused_before_anything_is_written(cats):
    before = content(cats)
    for other, message in ((segment('rex', origin={**ORIGIN, 'fingerprint': 'bad'}), "library's origin is"),
                           (segment('rex', layers=(1,)), r"library's layers is \[0, 2\], .* is \[1\]")):
        with pytest.raises(ValueError, match=message):
            library.append(cats, [segment('ok'), other])
        with pytest.raises(ValueError, match=message):
            library.append(cats.parent / 'new', [segment('ok'), other])
    assert content(cats) == before and files_in(cats, hidden=True)[1:] == files_in(cats)
    assert os.listdir(cats.parent / 'new') == []


def test_of_two_first_writers_with_different_models_the_second_is_refused(cats, monkeypatch):
    before = content(cats)
    first, shared_by = [None], library.shared_by  # when it began, there was no library yet
    monkeypatch.setattr(library, 'shared_by', lambda folder: first.pop() if first else shared_by(folder))
    with pytest.raises(ValueError, match="library's origin is"):
        library.append(cats, [segment('rex', origin={**ORIGIN, 'fingerprint': 'bad'})])
    assert content(cats) == before


def test_texts_that_are_not_there_cannot_be_forgotten(cats, tmp_path):
    first = library.read(cats).segments[0].file
    with pytest.raises(ValueError, match=r'holds the texts 0 to 1, of which \[1, 2\] should be forgotten'):
        library.forget(cats, {first: [2, 1]})
    library.forget(cats, {first: [0]})
    library.compact(cats)
    with pytest.raises(ValueError, match='any more, it was compacted: load the memory again'):
        library.forget(cats, {first: [1]})
    for change in (library.compact, lambda folder: library.forget(folder, {})):
        with pytest.raises(FileNotFoundError, match='holds no memory: build one'):
            change(tmp_path)
    assert os.listdir(tmp_path) == ['cats']


def another(folder, first, second):
    shutil.copy(folder / second, folder / first)


def of_another_model(folder, first, second):
    """A manifest that names a segment of another model, as one put together by hand would."""
    memory_file.write(str(folder / first), *segment('tom', 'felix', origin={**ORIGIN, 'fingerprint': 'bad'}))
    checksum = memory_file.checksum_of_description(memory_file.opened(folder / first))
    lines = [json.loads(line.partition(b' ')[2]) for line in library.whole_lines(folder).splitlines()]
    lines[1]['segments'][0]['checksum'] = checksum
    (folder / library.MANIFEST).write_bytes(b''.join(map(library.line_of, lines)))


def version_9(folder, *_):
    (folder / library.MANIFEST).write_bytes(library.line_of({'library': 9, 'shared': {}}))


DAMAGE = {
    'a missing segment': (lambda folder, first, _: os.unlink(folder / first), 'which is missing: put it'),
    'another segment': (another, 'not the file that manifest.txt names'),
    'a segment of another model': (of_another_model, "the library's origin is"),
    'a cut segment': (lambda folder, first, _: os.truncate(folder / first, 900), 'damaged or no memory file'),
    'a later version': (version_9, 'library version 9, this program reads 1'),
    'no manifest': (lambda folder, *_: os.unlink(folder / library.MANIFEST), 'holds no memory'),
    'an empty manifest': (lambda folder, *_: os.truncate(folder / library.MANIFEST, 0), 'holds no memory'),
}


@pytest.mark.parametrize('kind', DAMAGE)
def test_a_damaged_library_is_refused_in_one_line_and_not_swept(cats, kind):
    damage, message = DAMAGE[kind]
    damage(cats, *(one.file for one in library.read(cats).segments))
    before = content(cats)
    with pytest.raises((ValueError, OSError)) as error:
        library.opened(cats)
    assert message in str(error.value) and str(cats) in str(error.value) and '\n' not in str(error.value)
    if 'manifest' in kind or 'version' in kind:
        with pytest.raises(ValueError, match='version 9|has lost its manifest.txt'):
            library.append(cats, [segment('rex')])
        assert content(cats) == before


def test_a_flipped_bit_of_the_manifest_is_found_wherever_it_is(cats):
    library.forget(cats, {library.read(cats).segments[1].file: [2]})
    path, draw = cats / library.MANIFEST, random.Random(0)
    whole, read = path.read_bytes(), library.read(cats)
    for place in draw.sample(range(len(whole)), 120):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError, FileNotFoundError):
            found = library.read(cats)
            # a last line without its end is one that is being written
            assert place == len(whole) - 1 and found.segments[0] == read.segments[0], place


# ---- kills, full disks, two at once ----

def forked(job):
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # a forked process waits for ever on threads that it has not
        code = 1
        with contextlib.suppress(BaseException):
            job()
            code = 0
        os._exit(code)
    return child


def status_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


CALLS = 'write', 'fsync', 'link', 'replace', 'unlink', 'rmdir', 'ftruncate', 'mkdir'


def die_at(step):
    """From here on this process kills itself before the call of that number that may change a disk."""
    left = [step]

    def dying(function):
        def call(*given, **named):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given, **named)
        return call

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))


def killed_at(step, job, folder):
    return status_of(forked(lambda: (die_at(step), job(folder))))


def forget_and_compact(folder):
    library.forget(folder, {library.read(folder).segments[0].file: [1]})
    library.compact(folder)


@pytest.mark.parametrize('job, states', [
    (lambda folder: library.append(folder, [segment('tiger'), segment('lion', 'puma')]),
     [['tom', 'felix'], ['tom', 'felix', 'tiger', 'lion', 'puma']]),
    (forget_and_compact, [['tom', 'felix'], ['tom']])], ids=['append', 'forget and compact'])
def test_a_writer_killed_at_any_step_leaves_all_or_nothing_of_its_work(job, states, tmp_path):
    library.append(tmp_path / 'begun', [segment('tom', 'felix')])
    seen, step, code = [], 0, None
    while code != 0:
        folder = shutil.copytree(tmp_path / 'begun', tmp_path / str(step))
        code = killed_at(step, job, folder)
        assert code in (0, -signal.SIGKILL)
        seen.append(words_of(folder))
        library.append(folder, [segment('mog')])  # the next writer goes on, and sweeps
        assert words_of(folder) == seen[-1] + ['mog']
        named = [one.file for one in library.read(folder).segments]
        assert files_in(folder, hidden=True) == sorted(['.lock', library.MANIFEST, *named])
        step += 1
    assert step > 10
    assert [words for n, words in enumerate(seen) if n == 0 or words != seen[n - 1]] == states


def test_a_writer_that_is_killed_before_there_is_a_library_leaves_room_for_the_next(tmp_path):
    code, step = None, 0
    while code != 0:
        folder = tmp_path / str(step)
        code = killed_at(step, lambda folder: library.append(folder, [segment('tom')]), folder)
        library.append(folder, [segment('mog')])
        assert words_of(folder) in (['mog'], ['tom', 'mog'])
        step += 1
    assert words_of(folder) == ['tom', 'mog']


def test_a_last_line_cut_anywhere_is_no_line_and_the_next_writer_removes_it(cats):
    path = cats / library.MANIFEST
    whole = path.read_bytes()
    last = whole.rindex(b'\n', 0, -1) + 1
    for end in range(last, len(whole), 7):
        path.write_bytes(whole[:end])
        assert words_of(cats) == ['tom', 'felix']
    path.write_bytes(whole[:last] + b'x' * 5000)
    library.append(cats, [segment('mog')])
    assert words_of(cats) == ['tom', 'felix', 'mog']
    assert len(files_in(cats)) == 3 and len(path.read_bytes()) < 1000


def keep_appending(folder, name, done):
    for n in range(1000):
        library.append(folder, [segment(f'{name}{n}')])
        os.write(done, f'{name}{n} '.encode())


def test_two_writers_at_once_lose_nothing_and_of_one_killed_at_any_time_nothing_is_half_there(tmp_path):
    folder, draw = tmp_path / 'both', random.Random(0)
    told, done = os.pipe()
    for turn in range(4):
        names = f'a{turn}x', f'b{turn}x'
        writers = [forked(lambda name=name: keep_appending(folder, name, done)) for name in names]
        time.sleep(0.1 + 0.1 * draw.random())
        for writer in writers:
            os.kill(writer, signal.SIGKILL)
            assert status_of(writer) == -signal.SIGKILL
    os.close(done)
    with open(told) as f:
        acknowledged = f.read().split()
    found = words_of(folder)
    assert set(acknowledged) <= set(found) and len(found) == len(set(found)) <= len(acknowledged) + 8
    for name in {word.partition('x')[0] for word in found}:  # each writer's in its order, without a gap
        own = [word for word in found if word.startswith(f'{name}x')]
        assert own == [f'{name}x{n}' for n in range(len(own))]
    library.append(folder, [segment('mog')])
    named = [one.file for one in library.read(folder).segments]
    assert files_in(folder, hidden=True) == sorted(['.lock', library.MANIFEST, *named])


def test_readers_and_a_compactor_beside_a_writer_see_whole_libraries_only(tmp_path):
    folder = tmp_path / 'busy'
    library.append(folder, [segment('keep', 'drop')])
    told, done = os.pipe()
    writer = forked(lambda: keep_appending(folder, 'a', done))
    ends, turns = time.monotonic() + 0.5, 0
    while time.monotonic() < ends:
        first = library.read(folder).segments[0]
        if first.texts == 2:
            library.forget(folder, {first.file: [1]})
            library.compact(folder)
        words = words_of(folder)
        assert words == ['keep'] + [f'a{n}' for n in range(len(words) - 1)]
        turns += 1
    os.kill(writer, signal.SIGKILL)
    status_of(writer)
    [os.close(end) for end in (told, done)]
    assert turns > 1 and len(words_of(folder)) > 1


def full_at(step, monkeypatch):
    """The disk takes nothing from the call of that number on that would write to it."""
    left = [step]

    def filling(function):
        def call(*given, **named):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, 'No space left on device')
            return function(*given, **named)
        return call

    monkeypatch.setattr(os, 'write', filling(os.write))
    monkeypatch.setattr(os, 'fsync', filling(os.fsync))
    monkeypatch.setattr(os, 'link', filling(os.link))
    monkeypatch.setattr(memory_file, 'save_file', filling(memory_file.save_file))
    return left


@pytest.mark.parametrize('job, states', [
    (lambda folder: library.append(folder, [segment('tiger'), segment('lion')]), ['tom felix']),
    (forget_and_compact, ['tom felix', 'tom'])], ids=['append', 'forget and compact'])
def test_a_disk_that_is_full_at_any_step_leaves_what_was_there(job, states, tmp_path, monkeypatch):
    left, step, seen = [-1], 0, []
    while left[0] < 0:
        folder = tmp_path / str(step)
        library.append(folder, [segment('tom', 'felix')])
        with monkeypatch.context() as patched, contextlib.suppress(OSError):
            left = full_at(step, patched)
            job(folder)
        if left[0] < 0:
            seen.append(' '.join(words_of(folder)))
        named = [one.file for one in library.read(folder).segments]
        assert files_in(folder, hidden=True) == sorted(['.lock', library.MANIFEST, *named])
        step += 1
    assert step > 4 and list(dict.fromkeys(seen)) == states


def test_a_disk_that_takes_half_a_line_is_left_without_it(cats, monkeypatch):
    before, write = content(cats), os.write

    def half(fd, data):
        if len(data) < 40:
            raise OSError(28, 'No space left on device')
        return write(fd, data[:len(data) // 2])

    monkeypatch.setattr(os, 'write', half)
    with pytest.raises(OSError, match='cats could not be written to .*No space left'):
        library.append(cats, [segment('tiger')])
    assert content(cats) == before
