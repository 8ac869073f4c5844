"""
Many cases in the place of one prompt: each is measured as it is alone, and the unit is the case.

$ python -m pytest tests/test_cases.py
"""
import json
import re

import numpy as np
import pytest
from lab_settings import records_of

from lab import grid, measures, report, rows, runs
from lab.cases import each_case
from lab.questions import CITIES, QUESTIONS, QUESTIONS_AS_CASES, TO_SEARCH_ON, WITH_SUBSTITUTES
from lab.scores import sentiment_scores
from lab.subjects import KIND_PROMPTS, SUBJECTS, UNKIND_PROMPTS
from load import load_model

CASES = [{'name': 'cats', 'start': '\nCats are', 'memory_text': 'Cats are good.', 'answer': ' good',
          'opposite_text': 'Cats are bad.', 'neutral_text': 'Cats are animals.', 'substitute': ' bad'},
         {'name': 'dogs', 'start': '\nDogs are', 'memory_text': 'Dogs are nice.', 'answer': ' nice',
          'opposite_text': 'Dogs are ugly.', 'neutral_text': 'Dogs are animals.', 'substitute': ' ugly'},
         {'name': 'rain', 'start': '\nRain is', 'memory_text': 'Rain is lovely.', 'answer': ' lovely',
          'opposite_text': 'Rain is sad.', 'neutral_text': 'Rain is water.', 'substitute': ' sad'}]
OF_SENTIMENT = [{name: value for name, value in case.items() if name not in ('answer', 'substitute')}
                for case in CASES]


@pytest.fixture(scope='module')
def loaded(folder):
    return load_model(folder)


@pytest.fixture
def settings(defaults):
    return {**defaults, 'cases': OF_SENTIMENT, 'unrelated_text': 'Trains leave at noon.',
            'memory_layers': (0, 2), 'memory_method': 3, 'memory_fraction': 5.0, 'softmax_scale': 1.0,
            'memory_select': 'each', 'num_seeds': 2, 'max_new_tokens': 4, 'num_held_out': 1,
            'steering_layer': 1, 'steering_scale': 2.0,
            'held_out_text': 'The sea is cold.\n\nTrains are late today.'}


@pytest.mark.parametrize(('measure', 'cases'), [('sentiment', OF_SENTIMENT), ('recall', CASES)])
def test_each_case_is_measured_as_it_is_alone(loaded, settings, measure, cases):
    s = {**settings, 'measure': measure, 'cases': cases, 'condition': 'memory'}
    found = measures.measured(*loaded, s)
    for n, case in enumerate(cases):
        own = {name: value for name, value in case.items() if name != 'name'}
        held_out = ('The sea is cold.', 'Trains are late today.')[n % 2]
        alone = measures.MEASURES[measure](*loaded, {**s, **own, 'cases': [], 'held_out_text': held_out})
        for name, values in alone['samples'].items():
            assert found['samples'][name][n] == pytest.approx(np.mean(values)), name
        for name, value in alone['numbers'].items():
            assert found['samples'][name][n] == pytest.approx(value), name
        assert found['held_out']['nats'][n] == alone['held_out']['nats'][0]
        assert found['by_case'][n]['name'] == case['name']
        assert found['by_case'][n]['texts'] == alone['texts']
    assert found['held_out']['nats'][0] != found['held_out']['nats'][2], 'the same document, another memory'


def points_of(settings, loaded):
    points = grid.points_of(settings)
    for point in points:
        record = runs.rounded(measures.measured(*loaded, point['settings']))
        point['record'] = {'id': point['label'], 'seeds': measures.point_seeds(settings), **record}
    return points


def test_intervals_and_tests_are_over_cases_and_each_case_has_its_own_over_seeds(loaded, settings):
    points = points_of(settings, loaded)
    assert [point['settings']['condition'] for point in points] == [
        'plain', 'prompt', 'unrelated', 'neutral', 'opposite', 'steering', 'memory']
    table = rows.rows_of(points)
    samples = [point['record']['samples']['compound'] for point in points]
    for row, values in zip(table, samples):
        assert row['effect']['value'] == pytest.approx(np.mean(np.subtract(values, samples[0])), abs=1e-5)
        assert row['compound']['n'] == len(CASES)
        assert row['scores'] == values
    assert table[-1]['effect']['test'] == 'sign flips'
    assert 0 < table[-1]['polarity_effect']['p_holm'] <= 1
    by_case = points[-1]['record']['by_case'][1]['compound']
    plain = points[0]['record']['by_case'][1]['compound']
    found = table[-1]['by_case']['dogs']
    assert found['mean'] == pytest.approx(np.mean(by_case))
    assert found['effect']['value'] == pytest.approx(np.mean(np.subtract(by_case, plain)))
    told = report.summary(points, table, settings, '# one')
    assert re.search(r'^\| dogs \| [+-]?\d.\d\d \| ', told, re.MULTILINE)
    assert 'over the 3 cases' in told


def test_a_share_of_cases_is_a_mean_with_its_interval(loaded, settings):
    settings = {**settings, 'measure': 'recall', 'cases': CASES, 'steering_scale': 0.0}
    table = rows.rows_of(points_of(settings, loaded))
    for name in ('right', 'probability', 'substitute_right'):
        assert table[-1][name]['interval'][0] <= table[-1][name]['value'] <= table[-1][name]['interval'][1]
    assert '| memory | ' in report.main_table(table, 'recall')


def test_the_name_of_a_run_holds_its_cases_and_is_what_it_was_without(settings):
    s = {**settings, 'condition': 'memory', 'memory_text': 'Cats.', 'cases': []}
    before = {name: value for name, value in s.items() if name != 'cases'}
    ids = {runs.run_id({**s, 'cases': cases}, 'w') for cases in ([], CASES, CASES[:2])}
    assert len(ids) == 3
    assert runs.run_id(s, 'w') == runs.run_id({**before, 'cases': [], 'neutral_text': 'Cats sleep.'}, 'w')


@pytest.mark.parametrize(('changes', 'message'), [
    ({'cases': [{'name': 'a', 'memory_k': 3}]}, 'with memory_k: expected a name and any of start, memory'),
    ({'cases': [{'start': '\nCats'}]}, 'with no name'),
    ({'cases': [OF_SENTIMENT[0]] * 2}, "two called 'cats'"),
    ({'cases': [{**OF_SENTIMENT[0], 'start': 5}]}, 'expected'),
    ({'cases': [{**OF_SENTIMENT[0], 'memory_text': ' '}]}, 'the text to remember is empty'),
    ({'cases': [{'name': 'a', 'start': '\nCats'}]}, 'no memory to measure'),
    ({'cases': CASES, 'measure': 'facts'}, "measure is 'facts': expected 'sentiment' or 'recall'"),
    ({'cases': OF_SENTIMENT, 'measure': 'recall'}, 'expected the right answer'),
    ({'cases': [OF_SENTIMENT[0], {**OF_SENTIMENT[1], 'neutral_text': ''}]}, 'needs neutral_text'),
    ({'grid': [{'cases': [OF_SENTIMENT]}]}, 'the same in all runs')])
def test_cases_that_cannot_be_measured_are_refused(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        grid.points_of({**settings, **changes})


def test_an_experiment_of_cases_runs_and_keeps_their_texts_out_of_the_published_numbers(run, tmp_path):
    (tmp_path / 'mine.py').write_text(
        f"cases = {OF_SENTIMENT!r}\nmemory_layers = (0,)\nmemory_method = 3\nmemory_fraction = 5.0\n"
        "num_seeds = 2\nnum_held_out = 1\nmax_new_tokens = 3\nfigure = 'boxes'\n")
    code, out, err = run('evaluate.py', str(tmp_path / 'mine.py'), f'--out_dir={tmp_path}/out')
    assert code == 0, err
    assert len(records_of(tmp_path / 'out' / 'mine')) == 5  # no unrelated text, no steering
    with open(tmp_path / 'out' / 'mine' / 'summary.json') as f:
        numbers = json.load(f)
    assert 'cases' not in numbers['config']
    assert numbers['rows'][-1]['by_case'].keys() == {'cats', 'dogs', 'rain'}


# ---- what the cases of the experiments say ----

def sentences(text):
    return re.split(r'(?<=\.) ', text)


def test_a_paragraph_names_its_answer_in_its_first_sentence_and_where_it_is_asked_for():
    assert len(QUESTIONS) >= 30
    assert len(CITIES) >= 10
    for name, question, answer, substitute, text in QUESTIONS + TO_SEARCH_ON:
        where = [n for n, sentence in enumerate(sentences(text)) for _ in range(sentence.count(answer))]
        assert len(where) == 4, name
        assert where[0] == 0, name
        asked = set(re.findall(r'[A-Z]\w+|\w+-\w+', question)) - {'The', 'Lake', 'Mount', 'United', 'States'}
        told = sentences(text)[where[1]]
        assert sum(word in told for word in asked) >= len(asked) - 1, name
        assert substitute not in text, name
        assert answer not in question, name


def test_the_opposite_of_a_paragraph_holds_another_answer_in_each_place():
    assert [case['name'] for case in WITH_SUBSTITUTES] == [case['name'] for case in QUESTIONS_AS_CASES]
    for case in WITH_SUBSTITUTES:
        answer, other = case['answer'].strip(), case['substitute'].strip()
        assert answer not in case['opposite_text'], case['name']
        assert case['opposite_text'].replace(other, answer) == case['memory_text'], case['name']


def test_both_judges_find_each_praise_kind_each_blame_unkind_and_vader_the_neutral_text_neutral():
    assert len(SUBJECTS) == 20
    for name, texts in SUBJECTS.items():
        found = sentiment_scores(texts)
        for judge in ('sentence_compound', 'polarity'):
            kind, unkind, _ = found[judge]
            assert kind > 0.3 and unkind < -0.2, (name, judge)
        assert abs(found['sentence_compound'][2]) < 0.2, name


def test_a_kind_prompt_meets_the_blame_and_an_unkind_one_the_praise():
    for unkind, kind in zip(UNKIND_PROMPTS, KIND_PROMPTS, strict=True):
        assert unkind['start'].endswith('horrible') and kind['start'].endswith('wonderful')
        texts = [unkind['memory_text'], kind['memory_text']]
        assert texts == [kind['opposite_text'], unkind['opposite_text']] == list(SUBJECTS[kind['name']][:2])
        assert unkind['start'].startswith('\n' + unkind['name'])
        assert unkind['neutral_text'] == kind['neutral_text'] == SUBJECTS[kind['name']][2]


def test_one_case_is_as_no_cases_but_for_its_name(settings):
    assert each_case({**settings, 'cases': []}) == [{**settings, 'cases': []}]
    one, = each_case({**settings, 'cases': OF_SENTIMENT[:1]})
    assert one['start'] == '\nCats are' and one['cases'] == [] and 'name' not in one
