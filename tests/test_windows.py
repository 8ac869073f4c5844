"""
Long texts in windows: they cover the text, fit, overlap as stated, and are found again at their place.

$ python -m pytest tests/test_windows.py
"""
import random
import re

import pytest
from conftest import ROOT

from core.windows import LONGEST_TOKEN, SENTENCE_ENDS, places, windows_of
from load import tokenizer_of_folder

SENTENCES = ('Vera Durnet is the mayor of Taldun. ', 'She was born there, near the river; her father made '
             'cheese. ', 'Does it rain?  ', '"It does!" she said. ', 'Dr. Ames and J. K. Olm met in the U.S. '
             'in 1951.\n\n', 'A list:\n- one\n- two\n\n', '天気がいい。', 'हाँ। ', 'x.y.z is 3.5 m long. ')


class Words:
    """A token a word or mark, blank space none; notes what it was given."""
    token = r'\w+|[^\w\s]'

    def __init__(self):
        self.given = []

    def encode(self, text):
        self.given.append(len(text))
        return re.findall(self.token, text)


class Characters(Words):
    token = r'(?s).'


class Bytes:
    """A token a byte: of the header too, and of blank space."""

    @staticmethod
    def encode(text):
        return list(text.encode())


@pytest.fixture(scope='module')
def tinyworld():
    return tokenizer_of_folder(f'{ROOT}/assets/tinyworld')


def drawn(kind, length):
    """A text of a kind, the same each time."""
    draw = random.Random(length)
    if kind == 'sentences':
        return ''.join(draw.choice(SENTENCES) for _ in range(length // 20))
    letters = {'words': 'ab cd e', 'no space': 'abc', 'marks': '.!?,"', 'blank': ' \n\t\u2003a',
               'any': '\u0301\u200d\U0001f469\U0001f3ff日\0\x85\ufeff a.\r\n', 'line ends': '.\n'}[kind]
    return ''.join(draw.choice(letters) for _ in range(length))


KINDS = 'sentences', 'words', 'no space', 'marks', 'blank', 'any', 'line ends'


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('window, overlap', [(256, 32), (24, 6), (40, 39), (16, 0)])
def test_windows_cover_the_text_and_fit_behind_their_header(kind, window, overlap, tinyworld):
    for tokenizer, prefix in ((Words(), ''), (Bytes, '\n'), (tinyworld, '\n')):
        text = drawn(kind, 1000)
        if tokenizer is tinyworld and kind == 'any':
            continue  # a vocabulary of English alone
        windows = windows_of('FILE:a', text, tokenizer, window, overlap, prefix)
        header, covered = len(tokenizer.encode(prefix)) if prefix else 0, set()
        for n, one in enumerate(windows):
            assert (one['source'], one['window'], one['of']) == ('FILE:a', n, len(windows))
            assert text[one['start']:one['end']] == one['text'] == one['text'].strip() != ''
            assert len(tokenizer.encode(prefix + one['text'])) - header <= window
            covered |= set(range(one['start'], one['end']))
        assert {i for i, character in enumerate(text) if not character.isspace()} <= covered
        starts = [one['start'] for one in windows]
        assert starts == sorted(set(starts))
        assert windows == windows_of('FILE:a', text, tokenizer, window, overlap, prefix)


def test_a_window_ends_with_a_sentence_and_begins_with_the_last_one_of_the_window_before():
    text = ' '.join(f'The town of number {n} has a mayor, and he is old.' for n in range(100))
    windows = windows_of('', text, Words(), 64, 10)
    for one, after in zip(windows, windows[1:]):
        sentences = re.findall(r'The .*?old\.', one['text'])
        assert ' '.join(sentences) == one['text'] and len(sentences) == 4  # of 14 tokens each
        assert after['text'].startswith(sentences[-1]) and after['start'] == one['end'] - len(sentences[-1])
    apart = windows_of('', text, Words(), 64, 0)
    assert [one['end'] + 1 for one in apart[:-1]] == [one['start'] for one in apart[1:]]


@pytest.mark.parametrize('overlap, shared', [(1, 1), (14, 1), (15, 2), (28, 2), (29, 2), (63, 2)])
def test_the_overlap_is_as_few_sentences_as_take_so_many_tokens_and_at_most_half_a_window(overlap, shared):
    text = ' '.join(f'The town of number {n} has a mayor, and he is old.' for n in range(100))
    one, after = windows_of('', text, Words(), 64, overlap)[:2]
    assert text[after['start']:one['end']].count('old.') == shared


@pytest.mark.parametrize('text, sentences', [
    ('One. Two! Three? "Four." Five', ['One.', 'Two!', 'Three?', '"Four."', 'Five']),
    ('Dr. Ames met J. K. Olm. He left.', ['Dr. Ames met J. K. Olm.', 'He left.']),
    ('It is 3.5 m, e.g. here. So.', ['It is 3.5 m, e.g. here.', 'So.']),
    ('Title\n\nText of it\ngoes on.', ['Title', 'Text of it\ngoes on.']),
    ('天気がいい。行こう！', ['天気がいい。', '行こう！']), ('क ख। ग घ।', ['क ख।', 'ग घ।'])])
def test_sentences_end_where_a_reader_would_say(text, sentences):
    ends = places(text, 0, len(text), SENTENCE_ENDS)
    assert [text[a:b].strip() for a, b in zip([0, *ends], [*ends, len(text)])] == sentences


def test_a_sentence_that_is_too_long_is_cut_at_its_clauses_and_a_clause_at_its_words():
    clauses = [' '.join([letter] * 9) + ',' for letter in 'abcdef']
    windows = windows_of('', ' '.join(clauses), Words(), 12, 0)
    assert [one['text'] for one in windows] == clauses
    windows = windows_of('', ' '.join(clauses), Words(), 4, 0)
    assert all(re.fullmatch(r'\w,?( \w,?)*', one['text']) for one in windows)


def test_a_text_that_fits_is_one_window_and_a_blank_one_none():
    assert windows_of('a', '\n Cats are good. Dogs too. \n', Words(), 8, 2) == [
        {'source': 'a', 'text': 'Cats are good. Dogs too.', 'window': 0, 'of': 1, 'start': 2, 'end': 26,
         'overlap': 0}]
    assert len(windows_of('a', 'a' * 8, Characters(), 8, 2, '\n\n')) == 1
    for blank in ('', ' \n\t '):
        assert windows_of('a', blank, Words(), 8, 2) == []


def test_what_is_written_later_leaves_earlier_windows_as_they_are():
    text = drawn('sentences', 3000)
    before, after = (windows_of('', one, Words(), 64, 16) for one in (text, text + drawn('sentences', 900)))
    kept = [(one['start'], one['end']) for one in before[:-1]]
    assert kept == [(one['start'], one['end']) for one in after[:len(kept)]]


@pytest.mark.parametrize('kind', KINDS)
def test_the_work_grows_with_the_texts_length_alone(kind):
    read = []
    for length in (20_000, 80_000):
        words = Words()
        windows_of('', drawn(kind, length), words, 64, 16)
        read.append(sum(words.given) / length)
    assert read[1] < 1.2 * read[0] < 12
    assert max(words.given) <= 64 * LONGEST_TOKEN


@pytest.mark.parametrize('text', ['.' * 40_000, 'a' * 40_000, '. ' * 20_000, '"' * 40_000, '\n ' * 20_000,
                                  ')' * 40_000, 'a' + ' ' * 80_000 + 'b', '.)' * 20_000,
                                  ('a ' * 100 + ' ' * 40_000) * 2],
                         ids=lambda text: text[:3])
def test_a_text_of_few_letters_is_gone_through_a_few_times(text):
    for tokenizer in (Words(), Characters()):
        windows = windows_of('', text, tokenizer, 256, 32)
        assert sum(tokenizer.given) < 8 * len(text)
        assert sum(len(one['text']) for one in windows) < 2 * len(text)
        assert len(windows) < len(text) / 64


@pytest.mark.parametrize('window, overlap', [(0, 0), (-1, 2), (8, -1)])
def test_a_setting_out_of_range_is_refused(window, overlap):
    with pytest.raises(ValueError, match=f'window_tokens is {window}, window_overlap is {overlap}'):
        windows_of('', 'Cats.', Words(), window, overlap)


def test_a_character_that_no_window_can_hold_is_named():
    with pytest.raises(ValueError, match="the character '日' takes 3 tokens, a window has 2: give more"):
        windows_of('', 'a日', Bytes, 2, 0)
