"""
Questions on real paragraphs: what is read of a file in SQuAD's format, which answer counts, and BM25.

$ python -m pytest tests/test_squad.py
"""
import json
import math
import sys
import types

import numpy as np
import pytest

from lab.bm25 import bm25_scores
from lab.made_up import Question, Story
from lab.squad import FORMAT, contains_answer, read_squad


def qa(question, *answers):
    return {'question': question, 'answers': [{'text': text, 'answer_start': 0} for text in answers]}


def write(path, data):
    path.write_text(json.dumps({'version': '1.1', 'data': data}))
    return str(path)


def test_paragraphs_questions_and_all_different_answers_are_read(tmp_path, capsys):
    first = {'context': ' Ida bakes. ', 'qas': [qa('Who bakes?', 'Ida', 'Ida ', 'ida b')]}
    articles = [{'paragraphs': [first, {'context': 'Rain falls.', 'qas': [qa('Who knows?')]}]},
                {'paragraphs': [{'context': 'Ida bakes.', 'qas': [qa('What does Ida do? ', 'bakes')]}]}]
    assert read_squad(write(tmp_path / 'squad.json', articles)) == [
        Story('Ida bakes.', (Question('Who bakes?', ('Ida', 'ida b')),
                             Question('What does Ida do?', ('bakes',)))),
        Story('Rain falls.', ())]
    assert capsys.readouterr().err.endswith('1 questions have no answer and are left out\n')


@pytest.mark.parametrize('content, told', [
    ('Ida bakes.', 'is not JSON'), ('[]', "is not in SQuAD's format (TypeError"),
    ('{"data": [{"title": "Ida"}]}', "(KeyError: 'paragraphs')"), ('{"data": []}', 'has no question')])
def test_another_file_is_refused_in_one_line_that_says_what_was_expected(tmp_path, content, told):
    path = tmp_path / 'other.json'
    path.write_text(content)
    with pytest.raises(ValueError) as error:
        read_squad(str(path))
    assert told in str(error.value)
    assert str(error.value).endswith(FORMAT)
    assert '\n' not in str(error.value)


def row(context, question, *answers):
    return {'context': context, 'question': question, 'answers': {'text': [*answers]}}


ROWS = [row(' Ida bakes.', 'Who bakes? ', 'Ida', 'Ida '), row('Rain falls.', 'Who knows?'),
        row('Ida bakes.', 'What does she do?', 'bakes')]


def fake_datasets(monkeypatch, rows):
    def load_dataset(name, split):
        if isinstance(rows, Exception):
            raise rows
        return rows if (name, split) == ('squad', 'validation') else None
    monkeypatch.setitem(sys.modules, 'datasets', types.SimpleNamespace(load_dataset=load_dataset))


def test_a_dataset_is_read_by_its_name_as_its_file_would_be(monkeypatch, capsys):
    fake_datasets(monkeypatch, ROWS)
    assert read_squad('squad') == [
        Story('Ida bakes.', (Question('Who bakes?', ('Ida',)), Question('What does she do?', ('bakes',)))),
        Story('Rain falls.', ())]
    assert capsys.readouterr().err.endswith('1 questions have no answer and are left out\n')


@pytest.mark.parametrize('rows, kind, told', [
    (ConnectionError('no\nroute'), OSError, 'no such dataset could be fetched (no route): name a .json file'),
    (ValueError('BuilderConfig missing'), OSError, 'could be fetched (BuilderConfig missing)'),
    ([{'text': 'Cats'}], ValueError, "is not in SQuAD's format (KeyError: 'context')")], ids=str)
def test_a_dataset_that_cannot_be_read_is_refused_in_one_line(monkeypatch, rows, kind, told):
    fake_datasets(monkeypatch, rows)
    with pytest.raises(kind) as error:
        read_squad('squad')
    assert told in str(error.value) and '\n' not in str(error.value)


def test_without_the_library_a_datasets_name_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, 'datasets', None)
    with pytest.raises(FileNotFoundError, match="'squad' is no file, .*: name a .json file, or pip install"):
        read_squad('squad')
    with pytest.raises(FileNotFoundError, match="no file 'away/dev.json'"):
        read_squad('away/dev.json')


def test_an_answer_counts_without_case_articles_and_punctuation_and_as_whole_words():
    assert contains_answer('It was THE baker, of course.', ('a baker',))
    assert contains_answer('In 1,066 or so', ('x', '1066'))
    assert contains_answer('It was the baker', ('a baker',))
    assert not contains_answer('Two bakers', ('a baker',))
    assert not contains_answer('10660', ('1066',))


def test_bm25_is_the_formula_of_its_authors():
    texts = ['bread bread flour oven', 'oven stone', 'stone river stone bridge water', 'river bank']
    words, (k1, b) = [text.split() for text in texts], (1.5, 0.75)
    mean = np.mean([len(one) for one in words])

    def slow(asked, one):
        score = 0.0
        for word in asked:
            n = sum(word in other for other in words)
            idf = math.log(1 + (len(words) - n + 0.5) / (n + 0.5))
            count = one.count(word)
            score += idf * count / (count + k1 * (1 - b + b * len(one) / mean))
        return score

    questions = ['bread oven', 'stone river', 'cathedral']
    expected = [[slow(question.split(), one) for one in words] for question in questions]
    np.testing.assert_allclose(bm25_scores(texts, questions), expected, rtol=1e-5)
