"""
The measure 'talk': what is said when, and under which condition a question is asked.

$ python -m pytest tests/test_long_talk.py
"""
import ast
import json
import runpy

import pytest
from conftest import ROOT
from lab_settings import records_of
from test_talk import HEADS, save_instruct

from lab import grid, talk
from lab.conditions import OF_A_TALK
from lab.everyday import FACTS, SMALL_TALK
from lab.runs import run_id
from lab.talk import Task, is_right, lines_of, measure, played
from load import load_model
from reader import Reading
from talk.talk import Style

READING = Reading(layers=(), method=5, index_heads=HEADS, distance=20, recall_votes=2)


@pytest.fixture(scope='module')
def model(instruct):
    return load_model(instruct)


def task(folder, condition='memory'):
    return Task(condition, 10, 1337, str(folder), Style('', 1, 1, 1.0, 1, 1337), READING)


@pytest.mark.parametrize('config', ['smollm2_talk', 'smollm2_few_texts'])
def test_what_is_measured_recalls_as_chat_py_does(config, monkeypatch):
    monkeypatch.chdir(ROOT)
    with open('chat.py', encoding='utf-8') as f:
        given = {line.targets[0].id: line.value for line in ast.parse(f.read()).body
                 if isinstance(line, ast.Assign)}
    measured = runpy.run_path(f'config/study/{config}.py')
    for name in ('recall_votes', 'recall_candidates', 'recall_threshold'):
        assert measured[name] == ast.literal_eval(given[name]), name


@pytest.mark.parametrize('count', [10, 40])
def test_each_fact_is_told_once_and_asked_once_ten_to_150_turns_later(count):
    lines = lines_of(count, 1337)
    told = {line.words: at for at, line in enumerate(lines)}
    asked = [(at, line) for at, line in enumerate(lines) if line.fact]
    assert len(lines) == 5 * count and [line.fact for _, line in sorted(asked, key=lambda one: FACTS.index(
        one[1].fact))] == list(FACTS[:count])
    for at, line in asked:
        assert line.gap == at - told[line.fact.told] and 10 <= line.gap <= 150
        assert line.words == line.fact.asked
    assert sum(line.words in SMALL_TALK for line in lines) == 3 * count


def test_no_answer_stands_in_a_question_or_in_small_talk():
    for fact in FACTS:
        assert is_right(fact.told, fact)
        assert not [words for words in (fact.asked, *SMALL_TALK) if is_right(words, fact)]
    assert len({fact.asked for fact in FACTS}) == len(FACTS) == 40


def test_a_talk_that_is_stopped_goes_on_where_it_was_and_conditions_ask_in_it(model, tmp_path, monkeypatch):
    exchange, count = talk.Talk.exchange, []

    def stops(self, words):
        count.append(words)
        if len(count) == 20:
            raise KeyboardInterrupt
        return exchange(self, words)
    lines = lines_of(10, 1337)
    monkeypatch.setattr(talk.Talk, 'exchange', stops)
    with pytest.raises(KeyboardInterrupt):
        played(*model, task(tmp_path), lines)
    history = played(*model, task(tmp_path), lines)
    assert [words for words, _ in history] == [line.words for line in lines] and len(count) == 51
    found = {how: measure(*model, task(tmp_path, how)) for how in OF_A_TALK}
    assert len(count) == 51, 'it was played again'
    tokens = {how: one['samples']['prompt_tokens'] for how, one in found.items()}
    assert all(a < p for a, p in zip(tokens['plain'], tokens['prompt']))
    assert all(p < w for p, w in zip(tokens['plain'], tokens['whole']))
    assert all(a < p for a, p in zip(tokens['alone'], tokens['prompt']))
    assert tokens['memory'] == tokens['plain']
    assert found['memory']['texts'] == [reply for line, (_, reply) in zip(lines, history) if line.fact]
    assert set(found['memory']['samples']) == {*found['plain']['samples'], 'found'}


def test_evaluate_measures_a_talk_and_draws_it(run, tmp_path):
    folder = save_instruct(tmp_path / 'model')
    code, out, err = run('evaluate.py', '--measure=talk', '--chat=True', '--num_facts=10', '--num_seeds=1',
                         '--top_k=1', '--max_new_tokens=1', '--memory_method=5', '--memory_layers=()',
                         '--index_heads=((0,1),(1,3))', '--memory_distance=20', '--recall_votes=2',
                         "--grid=[{'condition': ['plain', 'memory']}]", '--controls=False',
                         f'--out_dir={tmp_path}', init_from=folder)
    assert code == 0, err
    records = {record['settings']['condition']: record for record in records_of(tmp_path / 'evaluate')}
    assert set(records) == {'plain', 'memory'}
    table = (tmp_path / 'evaluate' / 'summary.md').read_text()
    assert '| condition memory |' in table and 'seconds' in table
    assert (tmp_path / 'evaluate' / 'figure.png').stat().st_size > 5000
    assert json.loads((tmp_path / 'evaluate' / 'summary.json').read_text())


@pytest.mark.parametrize(('given', 'message'), [
    ({'num_facts': 41}, '10 to 40 in a talk'), ({'num_facts': 9}, '10 to 40'), ({'chat': False}, 'is a chat'),
    ({'memory_method': 4}, 'a talk is a chat, read by method 5'),
    ({'condition': 'steering'}, "expected one of 'plain'")])
def test_a_talk_that_cannot_be_is_refused_before_it_begins(defaults, given, message):
    good = {**defaults, 'measure': 'talk', 'chat': True, 'num_facts': 40, 'memory_method': 5,
            'memory_layers': (), 'index_heads': HEADS}
    assert len(grid.points_of(good)) == 5
    with pytest.raises(ValueError, match=message):
        grid.points_of({**good, **given})


def test_what_a_talk_depends_on_is_in_its_runs_name_and_in_no_others(defaults):
    base = {**defaults, 'measure': 'talk', 'chat': True, 'condition': 'plain'}
    assert run_id(base, 'w') != run_id({**base, 'context_turns': 3}, 'w')
    assert run_id(base, 'w') != run_id({**base, 'recall_texts': 2, 'memory_method': 5}, 'w')
    other = {**defaults, 'memory_text': 'x', 'condition': 'memory'}
    assert run_id(other, 'w') == run_id({**other, 'context_turns': 3}, 'w')
