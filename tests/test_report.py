"""
What a person reads of an experiment: rows from known samples, their p-values, the screen and the files.

$ python -m pytest tests/test_report.py
"""
import json
import re

import numpy as np
import pytest

from lab import report
from lab.maps import cells_read, maps
from lab.rows import rows_of

TASK = {'start': '\nCats', 'cases': [], 'chat': False, 'system': '', 'squad_file': '', 'pass_keys': False,
        'everyday': False, 'max_new_tokens': 5, 'temperature': 0.8, 'top_k': 200, 'distance': 0,
        'num_facts': 2, 'seed': 1, 'answer': ''}
OF_SENTIMENT = ('sentence_compound', 'first_words_compound', 'polarity', 'pos', 'neu', 'neg',
                'perplexity', 'repetition', 'distinct_2')
PLAIN = [-0.5, 0.1, 0.3, -0.2, 0.6, 0.4, -0.1, 0.0]


def point(label, samples, condition='memory', measure='sentiment', **settings):
    """A point of an experiment with its record, as a run leaves it."""
    n = len(next(iter(samples.values())))
    if measure == 'sentiment':
        samples = {**{name: [1.0] * n for name in OF_SENTIMENT}, **samples}
    if measure == 'recall':
        samples = {**{name: [1.0] * n for name in ('perplexity', 'repetition', 'distinct_2')},
                   'mentioned': samples['right'], **samples}
    work = {'searches_per_step': {'5': 2.0}, 'picks_per_step': {'5': 3.0}, 'tokens_per_second': 10.0}
    numbers = {'probability': 0.5} if measure == 'recall' else {}
    record = {'id': label, 'samples': samples, 'numbers': numbers,
              'held_out': {'nats': [20.0, 10.0], 'tokens': [10, 5]}, 'seeds': list(range(n)), 'work': work}
    return {'label': label, 'panel': -1 if condition == 'plain' else 0, 'varied': {}, 'record': record,
            'settings': {**TASK, 'condition': condition, 'measure': measure, **settings}}


def cells_of(table):
    """A table in Markdown -> {label: {column: cell}}."""
    head, _, *lines = [list(map(str.strip, line.strip('|').split(' | '))) for line in table.splitlines()]
    return {line[0]: dict(zip(head[1:], line[1:])) for line in lines}


# ---- p-values ----

def test_scores_are_tested_by_signs_and_corrected_within_the_table():
    shifts = {'none': [0.0] * 8, 'all': [0.3] * 8, 'some': [0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, -0.1]}
    points = [point('plain model', {'compound': PLAIN}, 'plain')]
    points += [point(name, {'compound': list(np.add(PLAIN, shift))}) for name, shift in shifts.items()]
    rows = {row['label']: row for row in rows_of(points)}
    raw = {'none': 1.0, 'all': 2 / 256, 'some': 4 / 256}  # of 2**8 signs: all alike, or but the last
    assert {name: rows[name]['effect']['p_raw'] for name in raw} == pytest.approx(raw)
    holm = {'none': 1.0, 'all': 3 * 2 / 256, 'some': 2 * 4 / 256}
    assert {name: rows[name]['effect']['p_holm'] for name in raw} == pytest.approx(holm)
    shown = cells_of(report.main_table(list(rows.values()), 'sentiment'))
    assert [shown[name]['p'] for name in ('plain model', *raw)] == ['', '1.000', '0.023', '0.031']
    assert rows['all']['effect']['test'] == 'sign flips'


def test_rates_are_tested_by_mcnemar_and_corrected_within_the_table():
    plain = [0] * 20
    found = {'nothing': plain, 'ten': [1] * 10 + [0] * 10, 'twenty': [1] * 20, 'five': [1] * 5 + [0] * 15}
    points = [point('plain model', {'right': plain}, 'plain', 'recall')]
    points += [point(name, {'right': right}, measure='recall') for name, right in found.items()]
    rows = {row['label']: row for row in rows_of(points)}
    raw = {'nothing': 1.0, 'ten': 2 / 2**10, 'twenty': 2 / 2**20, 'five': 2 / 2**5}
    assert {name: rows[name]['effect']['p_raw'] for name in raw} == pytest.approx(raw)
    shown = cells_of(report.main_table(list(rows.values()), 'recall'))
    assert [shown[name]['p'] for name in raw] == ['1.000', '0.006', '< 0.001', '0.125']  # times 1, 3, 4, 2
    assert shown['ten']['p(answer)'] == '0.500'


def test_the_plain_model_is_not_tested_against_itself_and_does_not_count_in_the_correction():
    row = rows_of([point('plain model', {'compound': PLAIN}, 'plain')])[0]
    assert row['effect']['value'] == 0
    assert not {'p_raw', 'p_holm'} & row['effect'].keys()
    points = [point('plain model', {'compound': PLAIN}, 'plain'),
              point('memory', {'compound': list(np.add(PLAIN, 0.2))})]
    assert rows_of(points)[1]['effect']['p_holm'] == 2 / 256


def test_a_substitute_has_a_correction_of_its_own_column():
    names = 'right', 'substitute_right', 'substitute_mentioned', 'substitute_plain'
    plain = {name: [0] * 10 for name in names}
    points = [point('plain model', plain, 'plain', 'recall'),
              point('memory', {**plain, 'substitute_right': [1] * 10}, measure='recall')]
    for one in points:
        one['record']['numbers'] |= {'substitute_probability': 0.9, 'substitute_plain_probability': 0.1}
    rows = rows_of(points)
    assert rows[1]['substitute_effect']['p_holm'] == pytest.approx(2 / 2**10)
    assert rows[1]['substitute_effect']['test'] == 'exact McNemar'
    shown = cells_of(report.main_table(rows, 'recall'))['memory']
    assert (shown['p'], shown['its p'], shown['p(substitute)']) == ('1.000', '0.002', '0.900')


def test_few_texts_prove_nothing_whatever_they_say():
    points = [point('plain model', {'compound': [-0.9, -0.8, -0.9]}, 'plain'),
              point('memory', {'compound': [0.9, 0.8, 0.95]})]
    assert report.p_value(rows_of(points)[1]) == '0.250'


def test_an_effect_is_told_against_the_plain_model_at_the_same_task_alone():
    points = [point('plain 0.8', {'compound': PLAIN}, 'plain'),
              point('plain 1.2', {'compound': list(np.subtract(PLAIN, 1))}, 'plain', temperature=1.2),
              point('memory 1.2', {'compound': PLAIN}, temperature=1.2),
              point('memory 2', {'compound': PLAIN}, temperature=2)]
    rows = rows_of(points)
    assert rows[2]['effect']['value'] == pytest.approx(1)
    assert 'effect' not in rows[3]
    assert report.p_value(rows[3]) == ''


def test_shares_over_several_draws_are_tested_by_signs_and_zeros_and_ones_by_mcnemar():
    numbers = {'greedy': [0] * 4, 'probability': [0.1] * 4, 'other_right': [0] * 4}
    for right, test in (([1.0, 0.5, 0.5, 0.75], 'sign flips'), ([1, 1, 1, 1], 'exact McNemar')):
        points = [point('plain model', {'right': [0] * 4, **numbers}, 'plain', 'facts'),
                  point('memory', {'right': right, **numbers}, measure='facts')]
        effect = rows_of(points)[1]['effect']
        assert (effect['test'], effect['p_raw']) == (test, 2 / 16)


@pytest.mark.parametrize(('p', 'text'), [
    (0.0004, '< 0.001'), (0.001, '0.001'), (0.05, '0.050'), (1, '1.000')])
def test_a_p_value_is_told_to_three_digits(p, text):
    assert report.p_value({'effect': {'p_holm': p}}) == text


def test_what_is_said_of_a_table_says_what_was_done():
    for measure in ('sentiment', 'recall', 'facts'):
        told = report.HOW_TO_READ[measure] + report.OF_ALL
        assert 'Holm' in told
        assert not re.search(r'\breal\b', told)
        assert ('McNemar' in told) == (measure != 'sentiment')


# ---- the screen ----

def rows_of_a_search(count):
    points = [point('plain model', {'compound': PLAIN}, 'plain')]
    points += [point(f'layers {n}', {'compound': list(np.add(PLAIN, n / 100))}) for n in range(count)]
    points[-1]['chosen'] = True
    return points, rows_of(points)


def test_the_screen_has_five_columns_and_the_summary_all():
    points, rows = rows_of_a_search(3)
    screen = report.screen(points, rows, 'sentiment')
    assert screen.splitlines()[0] == '|  | compound | effect | p | held-out |'
    assert len(screen.splitlines()) == 2 + 4
    summary = report.summary(points, rows, {'measure': 'sentiment', 'show_texts': 0, 'cases': []}, '# one')
    assert 'distinct-2' in summary
    assert '## Work' in summary
    assert 'chosen' in summary


def test_the_choice_of_a_search_is_marked_and_shown_whatever_its_rank():
    points, rows = rows_of_a_search(20)
    screen = report.screen(points, rows, 'sentiment')
    assert '| **layers 19** |' in screen
    assert '| layers 11 |' in screen
    assert '| layers 12 |' not in screen
    assert screen.endswith('\n7 more settings were tried')
    assert [row['label'] for row in rows if row.get('chosen')] == ['layers 19']
    line = json.loads(report.json_line('mine', 'sentiment', rows))['rows']
    assert [label for label, row in line.items() if row.get('chosen')] == ['layers 19']
    assert 0 < line['layers 19']['p_holm'] <= 1


def test_look_ups_have_five_columns_too_and_say_how_many_are_left_out():
    found = {'layer': 1, 'h': 0, 'j': 2, 'token': ' cats', 'attention': 0.5, 'ids': [4], 'distances': [1.0],
             'tokens': [' dogs'], 'ranks': [1.0]}
    one = {'label': 'memory', 'record': {'look_ups': [found] * (report.MOST_LOOK_UPS + 3)}}
    screen = report.screen([one], [], 'look_ups')
    assert screen.splitlines()[1] == '| layer | head | context token | memory tokens | ranks |'
    assert screen.splitlines()[3] == "| 1 | 0 | 2 ' cats' | ' dogs' | 1.000 |"
    assert screen.endswith('\n3 more look-ups are in results.jsonl')


def test_the_map_outlines_what_the_choice_reads():
    assert cells_read({'memory_layers': (4, 5), 'memory_heads': ()}, 8) == [(4, 8), (5, 8)]
    assert cells_read({'memory_layers': (5,), 'memory_heads': (1, 2)}, 8) == [(5, 1), (5, 2)]
    effect = np.array([[0.1, 0.2, np.nan], [0.3, 0.4, 0.5]])
    for cells in ([], [(0, 1), (1, 2)]):
        fig = maps(effect, effect, 'sentence_compound', cells)
        for ax in fig.axes:
            assert [(patch.get_y() + 0.5, patch.get_x() + 0.5) for patch in ax.patches] == cells


# ---- evaluate.py ----

ARGUMENTS = ['--start=\nCats are', '--memory_text=Cats are good.', '--memory_layers=0', '--memory_method=3',
             '--memory_fraction=5', '--softmax_scale=1', '--max_new_tokens=4', '--num_seeds=2',
             '--num_held_out=2']


def test_evaluate_prints_a_table_and_where_the_rest_lies_and_json_when_asked(run, tmp_path):
    code, out, err = run('evaluate.py', *ARGUMENTS, f'--out_dir={tmp_path}', '--figure=')
    assert code == 0, err
    lines = [line for line in out.splitlines() if line]
    assert lines[0] == '|  | compound | effect | p | held-out |'
    labels = [line.split(' | ')[0] for line in lines[2:5]]
    assert labels == ['| plain model', '| text in the prompt', '| memory']
    assert lines[5].startswith('3 runs')
    for file in ('summary.md', 'summary.json', 'results.jsonl'):
        assert str(tmp_path / 'evaluate' / file) in out
    assert '{' not in out
    before = (tmp_path / 'evaluate' / 'results.jsonl').read_text()

    code, again, err = run('evaluate.py', *ARGUMENTS, f'--out_dir={tmp_path}', '--figure=', '--json=True')
    assert code == 0, err
    assert again.splitlines()[:-1] == out.splitlines()
    last = json.loads(again.splitlines()[-1])
    assert last['rows'].keys() == {'plain model', 'text in the prompt', 'memory'}
    assert (tmp_path / 'evaluate' / 'results.jsonl').read_text() == before, 'asking for JSON is no other run'


def test_the_finder_marks_the_row_that_best_py_holds(run, tmp_path):
    code, out, err = run('evaluate.py', *ARGUMENTS, f'--out_dir={tmp_path}', '--find=positive',
                         "--grid=[{'softmax_scale': [0.5]}]")
    assert code == 0, err
    with open(tmp_path / 'evaluate' / 'summary.json') as f:
        chosen, = (row for row in json.load(f)['rows'] if row.get('chosen'))
    assert out.count('| **') == 1
    assert f"| **{chosen['label']}** |" in out
    best = {}
    exec((tmp_path / 'evaluate' / 'best.py').read_text(), best)  # noqa: S102, what evaluate.py just wrote
    assert all(best[name] == (tuple(value) if isinstance(value, list) else value)
               for name, value in chosen['varied'].items())
