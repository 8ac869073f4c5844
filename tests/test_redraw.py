"""
Figures again from the numbers beside them.

$ python -m pytest tests/test_redraw.py
"""
import json
import os
import shutil

import numpy as np
import pytest
from conftest import ROOT
from lab_settings import BLAME, SENTIMENT

from lab import figures, finder
from lab.redraw import draw_all, picture_of
from lab.stats import quartiles

LOOK_UPS = ['--measure=look_ups', '--max_new_tokens=1', '--memory_method=1', '--bookkeeping_fraction=0']


@pytest.mark.parametrize('more', [
    ['--figure=boxes', f'--opposite_text={BLAME}'],
    ['--figure=cases', "--cases=[{'name':'a','start':'\\nCats'},{'name':'b','start':'\\nDogs'}]",
     "--grid=[{'condition': ['plain']}, {'memory_k': [1, 2]}]"],
    ['--figure=lines', "--grid=[{'memory_layers': [(0,1),(2,)]}]"],
    [*LOOK_UPS, '--figure=scatter'], [*LOOK_UPS, '--figure=shares'], ['--find=positive', '--memory_layers=0'],
    ['--figure=']])
def test_a_figure_is_the_same_from_its_published_numbers(more, run, tmp_path):
    published, seeds = str(tmp_path / 'assets'), ['--num_seeds=2', '--max_new_tokens=3', '--num_held_out=1']
    code, _, err = run('evaluate.py', *SENTIMENT, *seeds, *more, '--controls=False',
                       f'--out_dir={tmp_path}/out', f'--publish_dir={published}')
    assert code == 0, err
    if '--figure=' in more:
        assert not os.path.exists(f'{published}/evaluate.png')
        return
    with open(f'{published}/evaluate.png', 'rb') as f:
        before = f.read()
    with open(f'{published}/evaluate.png', 'wb') as f:
        f.write(b'lost')
    assert draw_all(published) == ([f'{published}/evaluate.png'], [])
    with open(f'{published}/evaluate.png', 'rb') as f:
        assert f.read() == before


def test_a_figure_whose_numbers_are_too_old_is_left_and_told(run, tmp_path):
    for name in ('tinyworld_figure06', 'tinyworld_figure10'):  # boxes without whiskers; bars
        for kind in ('json', 'png'):
            shutil.copy(os.path.join(ROOT, 'assets', 'writeup', f'{name}.{kind}'), tmp_path)
    path = tmp_path / 'tinyworld_figure06.json'
    numbers = json.loads(path.read_text())
    for row in numbers['rows']:
        row['compound'].pop('p5', None)
    path.write_text(json.dumps(numbers))
    before = (tmp_path / 'tinyworld_figure06.png').read_bytes()
    code, out, err = run('evaluate.py', f'--redraw={tmp_path}')
    assert code == 0, err
    assert out == f'1 figure drawn again: {tmp_path}/tinyworld_figure10.png\n'
    assert err.count('\n') == 1 and f'{tmp_path}/tinyworld_figure06.png is left as it is' in err
    assert (tmp_path / 'tinyworld_figure06.png').read_bytes() == before


def test_a_folder_without_figures_is_one_line(run, tmp_path):
    code, _, err = run('evaluate.py', f'--redraw={tmp_path}')
    assert (code, err.count('\n')) == (1, 1)
    assert 'holds no figure beside a JSON of its name' in err


def test_what_the_finder_did_not_try_is_left_out_of_its_map():
    found = finder.maps([{'record': {}, 'stage': 'control'}], 'positive', 2, 2)
    assert found['effect'] == [[None] * 3] * 2
    assert np.isnan(np.array(found['effect'], float)).all()


@pytest.mark.parametrize('name', ['find_index_heads', 'find_reading_layers'])
def test_what_a_search_without_runs_found_is_drawn_from_its_numbers(name):
    with open(os.path.join(ROOT, 'assets', 'smollm2', f'{name}.json')) as f:
        assert picture_of(json.load(f))[:4] == b'\x89PNG'


def test_a_box_shows_quartiles_and_whiskers_of_the_texts():
    values = [0.1, -0.4, 0.9, 0.3, 0.6, -0.2, 0.7, 0.05]
    fig, ax = figures.plt.subplots()
    figures.box_plot(ax, [quartiles(values)], [{'condition': 'memory'}])
    ends = {round(float(x), 6) for line in ax.lines for x in line.get_xdata()}
    assert set(np.quantile(values, [0.05, 0.5, 0.95]).round(6)) <= ends
    box = ax.patches[0].get_path().vertices[:, 0]
    assert [box.min(), box.max()] == pytest.approx(np.quantile(values, [0.25, 0.75]))
    figures.plt.close(fig)


def test_a_setting_that_a_named_dictionary_has_one_value_of_is_in_the_numbers(run, tmp_path):
    grid = "[{'memory_k': [1, 2]}, {'name': 'loud', 'memory_k': [2], 'softmax_scale': [0.5, 1.0]}]"
    code, _, err = run('evaluate.py', *SENTIMENT, '--num_seeds=1', '--max_new_tokens=2', '--num_held_out=1',
                       '--controls=False', f'--grid={grid}', f'--out_dir={tmp_path}')
    assert code == 0, err
    rows = json.loads((tmp_path / 'evaluate' / 'summary.json').read_text())['rows']
    assert [(row['varied'], row.get('fixed', {})) for row in rows] == [
        ({'memory_k': 1}, {}), ({'memory_k': 2}, {}), ({'softmax_scale': 0.5}, {'memory_k': 2}),
        ({'softmax_scale': 1.0}, {'memory_k': 2})]
