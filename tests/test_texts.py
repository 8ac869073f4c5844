"""
Texts as settings name them: byte order marks, line ends, folders and patterns.

$ python -m pytest tests/test_texts.py
"""
import os

import pytest
from conftest import ROOT

from core.texts import lines_of, read_text, read_texts


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """A folder with two texts, one of them in a folder of its own, which becomes the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'notes' / 'sub').mkdir(parents=True)
    (tmp_path / 'notes' / 'a.txt').write_text('Cats are good.')
    (tmp_path / 'notes' / 'sub' / 'b.txt').write_text('Dogs are bad.')
    return tmp_path


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / 'a.txt').write_bytes(b'\xef\xbb\xbfCats \xef\xbb\xbfare good.')
    assert read_text(f'FILE:{tmp_path}/a.txt') == 'Cats \ufeffare good.'


def test_windows_line_ends_are_line_feeds_and_other_separators_stay(tmp_path):
    (tmp_path / 'a.txt').write_bytes('one\r\ntwo\u2028\x85\x0b\x0c\rthree\n'.encode())
    assert read_text(f'FILE:{tmp_path}/a.txt') == 'one\ntwo\u2028\x85\x0b\x0c\rthree\n'


@pytest.mark.parametrize('inside', ['\u2028', '\u2029', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\x85',
                                    '\r'])
def test_a_line_ends_at_a_line_feed_alone(inside):
    assert lines_of(f'one{inside}more\ntwo\r\n\n  \nthree') == [f'one{inside}more', 'two', 'three']


def test_a_file_in_another_encoding_is_refused_by_name(tmp_path):
    (tmp_path / 'a.txt').write_text('Cats', encoding='utf-16')
    with pytest.raises(ValueError, match='a.txt is not text in UTF-8 .it looks like UTF-16.'):
        read_text(f'FILE:{tmp_path}/a.txt')


def test_the_home_folder_may_be_written_as_a_tilde(notes, monkeypatch):
    monkeypatch.setenv('HOME', str(notes))
    assert read_text('FILE:~/notes/a.txt') == 'Cats are good.'
    assert [text for _, text in read_texts('FILE:~/notes/*')] == ['Cats are good.']


@pytest.mark.parametrize('name', ['FILE:memories/taldun.txt', 'FILE:memories/tald*.txt'])
def test_the_repositorys_own_texts_are_found_from_any_folder_unless_the_user_has_such_a_file(notes, name):
    with open(os.path.join(ROOT, 'memories', 'taldun.txt')) as f:
        assert [text for _, text in read_texts(name)] == [f.read()]
    (notes / 'memories').mkdir()
    (notes / 'memories' / 'taldun.txt').write_text('mine')
    assert [text for _, text in read_texts(name)] == ['mine']


@pytest.mark.parametrize('pattern', ['core/*.py', 'notes/*.md'])
def test_a_pattern_that_meets_nothing_of_the_users_is_no_licence_to_read_code(notes, pattern):
    with pytest.raises(FileNotFoundError, match='name one file'):
        read_texts(f'FILE:{pattern}')


@pytest.mark.parametrize('pattern, found', [
    ('notes/*', ['notes/a.txt']), ('notes/**', ['notes/a.txt', 'notes/sub/b.txt']),
    ('notes/**/*.txt', ['notes/a.txt', 'notes/sub/b.txt']), ('notes/?.txt', ['notes/a.txt'])])
def test_a_pattern_passes_over_folders_and_two_stars_go_into_them(notes, pattern, found):
    assert [source for source, _ in read_texts(f'FILE:{pattern}')] == [f'FILE:{path}' for path in found]


def test_a_name_that_looks_like_a_pattern_is_the_file_of_that_name(notes):
    (notes / 'a[1].txt').write_text('one')
    assert read_texts('FILE:a[1].txt') == [('FILE:a[1].txt', 'one')]
    assert read_text('FILE:a[1].txt') == 'one'


def test_an_empty_file_of_a_pattern_is_left_out_with_a_line_and_of_empty_ones_nothing_is_left(notes, capsys):
    (notes / 'notes' / 'empty.txt').write_text(' \n')
    assert [source for source, _ in read_texts('FILE:notes/*.txt')] == ['FILE:notes/a.txt']
    assert capsys.readouterr().err == 'FILE:notes/empty.txt is empty: it is left out\n'
    assert read_texts('FILE:notes/e*.txt') == []


@pytest.mark.parametrize('text', ['FILE:notes', 'FILE:notes/'])
def test_a_folder_is_no_text_but_all_the_texts_in_it_and_in_folders_within(notes, text):
    with pytest.raises(OSError, match=r'is a folder: .* write FILE:notes/\*\.txt'):
        read_text(text)
    (notes / 'notes' / 'c.md').write_text('# Trains')
    (notes / 'notes' / 'd.py').write_text('code')
    (notes / 'notes' / 'sub' / 'e.txt').mkdir()
    assert [source for source, _ in read_texts(text)] == [
        f'FILE:notes/{name}' for name in ('a.txt', 'c.md', 'sub/b.txt')]


def test_a_folder_without_texts_is_told_as_such(notes):
    (notes / 'code').mkdir()
    (notes / 'code' / 'd.py').write_text('code')
    with pytest.raises(FileNotFoundError, match=r"'code' holds no .txt or .md: .* FILE:code/\*"):
        read_texts('FILE:code')


@pytest.mark.parametrize('text', ['file:notes/a.txt', 'File:notes/a.txt'])
def test_a_file_in_small_letters_is_told_to_be_written_in_capitals(notes, text):
    for read in read_text, read_texts:
        with pytest.raises(ValueError, match='write FILE:notes/a.txt, in capitals'):
            read(text)
