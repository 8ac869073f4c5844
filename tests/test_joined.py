"""
Libraries that are appended to a text at a time: their small segments are joined, whatever happens meanwhile.

$ python -m pytest tests/test_joined.py
"""
import shutil
import signal

import pytest
from test_library import content, files_in, killed_at, library_of, segment, words_of

from core import library, memory_file

WORDS = [f'cat{n}' for n in range(9)]


@pytest.fixture(autouse=True)
def three_in_a_row(monkeypatch):
    monkeypatch.setattr(library, 'JOINED', 3)
    monkeypatch.setattr(library, 'SMALL_ROWS', 12)


def sizes(folder):
    return [one.texts for one in library.read(folder).segments]


def appended(folder, words):
    """-> the file that each was written to."""
    return [library.append(folder, [segment(word)])[0].file for word in words]


def test_small_segments_become_one_when_there_are_so_many_in_a_row(tmp_path):
    seen = []
    for word in WORDS:
        library.append(tmp_path, [segment(word)])
        seen.append(sizes(tmp_path))
    assert seen == [[1], [1, 1], [3], [3, 1], [3, 1, 1], [3, 3], [3, 3, 1], [3, 3, 1, 1], [3, 3, 3]]
    assert words_of(tmp_path) == WORDS
    assert len(files_in(tmp_path)) == 4  # the manifest, and nothing of what was joined


def test_a_segment_that_is_not_small_is_left_and_ends_a_row(tmp_path):
    for words in (['tom'], ['mog'], ['a' * 12], ['felix'], ['tiger']):
        library.append(tmp_path, [segment(*words)])
    assert sizes(tmp_path) == [1, 1, 1, 1, 1]
    before = content(tmp_path)
    library.append(tmp_path, [segment('puma')])
    assert sizes(tmp_path) == [1, 1, 1, 3]
    kept = [one.file for one in library.read(tmp_path).segments[:3]]
    assert all(content(tmp_path)[file] == before[file] for file in kept)


def test_short_joined_segments_are_joined_again(tmp_path):
    appended(tmp_path, 'abcdefgh')
    assert sizes(tmp_path) == [7, 1]
    library.append(tmp_path, [segment('i')])
    assert sizes(tmp_path) == [9]
    assert words_of(tmp_path) == [*'abcdefghi']


def test_compact_joins_what_was_appended_before_there_was_joining(tmp_path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(library, 'JOINED', 99)
        files = appended(tmp_path, WORDS)
    library.forget(tmp_path, {files[4]: [0]})
    assert library.compact(tmp_path) == 1
    assert sizes(tmp_path) == [3, 3, 1, 1] and words_of(tmp_path) == WORDS[:4] + WORDS[5:]


def test_a_text_that_is_appended_is_where_joining_finds_no_room(tmp_path, monkeypatch):
    appended(tmp_path, WORDS[:2])

    def full(*given):
        raise OSError('no room')

    monkeypatch.setattr(library, 'joined', full)
    appended(tmp_path, WORDS[2:4])
    assert sizes(tmp_path) == [1, 1, 1, 1] and words_of(tmp_path) == WORDS[:4]



def test_texts_are_forgotten_by_the_segment_that_they_were_appended_as(tmp_path):
    files = appended(tmp_path, WORDS[:8])
    library.forget(tmp_path, {files[1]: [0], files[7]: [0]})
    assert words_of(tmp_path) == ['cat0', *WORDS[2:7]]
    library.append(tmp_path, [segment('cat8')])  # joins what is forgotten too
    assert words_of(tmp_path) == ['cat0', *WORDS[2:7], 'cat8']
    library.forget(tmp_path, {files[6]: [0], files[2]: [0], library.read(tmp_path).segments[0].file: [0]})
    assert words_of(tmp_path) == [*WORDS[3:6], 'cat8']
    with pytest.raises(ValueError, match=r'holds the texts 0 to 0, of which \[1\] should be forgotten'):
        library.forget(tmp_path, {files[0]: [1]})
    assert library.compact(tmp_path) == 5
    assert not any(b'cat7' in data for data in content(tmp_path).values())
    with pytest.raises(ValueError, match='any more, it was compacted: load the memory again'):
        library.forget(tmp_path, {files[6]: [0]})


def test_who_has_it_open_reads_on_while_it_is_joined(tmp_path):
    appended(tmp_path, WORDS[:2])
    _, files = library_of(tmp_path)
    library.append(tmp_path, [segment('cat2')])
    assert len(files_in(tmp_path)) == 2
    assert len(memory_file.read_tensors(*files[0], ['tokens'])['tokens']) == 4


@pytest.mark.parametrize('forgets', (False, True))
def test_a_writer_killed_at_any_step_of_joining_loses_nothing(forgets, tmp_path):
    files = appended(tmp_path / 'begun', WORDS[:2])
    if forgets:
        library.forget(tmp_path / 'begun', {files[0]: [0]})
    before, step, code, seen = words_of(tmp_path / 'begun'), 0, None, set()
    while code != 0:
        folder = shutil.copytree(tmp_path / 'begun', tmp_path / str(step))
        code = killed_at(step, lambda folder: library.append(folder, [segment('cat2')]), folder)
        assert code in (0, -signal.SIGKILL)
        assert words_of(folder) in (before, [*before, 'cat2'])
        seen.add((words_of(folder) == before, len(sizes(folder))))
        library.append(folder, [segment('mog')])  # the next writer goes on, and sweeps
        assert words_of(folder)[-1] == 'mog'
        named = [one.file for one in library.read(folder).segments]
        assert files_in(folder, hidden=True) == sorted(['.lock', library.MANIFEST, *named])
        library.forget(folder, {files[1]: [0]})
        assert WORDS[1] not in words_of(folder)
        step += 1
    assert {(True, 2), (False, 3), (False, 1)} == seen

