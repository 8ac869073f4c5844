"""
The laboratory's statistics against formulas, and what evaluate.py writes.

$ python -m pytest tests/test_evaluate.py
"""
import json
import math
import os

import numpy as np
import pytest
import torch
from lab_settings import BLAME, SENTIMENT, records_of

from lab import stats

# ---- statistics ----

def test_quartiles_and_intervals_are_those_of_the_formulas():
    values = [0.3, -0.2, 0.9, 0.1, 0.5, 0.7, -0.4]
    q = stats.quartiles(values)
    assert [q['q1'], q['median'], q['q3']] == pytest.approx(np.quantile(values, [0.25, 0.5, 0.75]).tolist())
    z, p, n = 1.959964, 0.3, 10  # Wilson 1927
    middle, half = (p + z * z / 2 / n) / (1 + z * z / n), z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    assert stats.wilson(3, 10) == pytest.approx((middle - half, middle + half), abs=1e-4)


def test_a_bootstrap_interval_covers_about_as_often_as_it_says_and_is_the_same_each_time():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(100):
        low, high = stats.bootstrap(rng.normal(0, 1, 60))
        hits += low <= 0 <= high
    assert 86 <= hits <= 100
    values = rng.normal(0, 1, 60)
    assert stats.bootstrap(values) == stats.bootstrap(values)
    assert stats.bootstrap([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert stats.bootstrap([2.0]) == (2.0, 2.0)


def test_an_effect_is_paired_by_seed():
    plain = list(np.linspace(-1, 1, 50))  # a spread that pairing takes away
    effect = stats.difference([x + 0.1 for x in plain], plain, np.median)
    assert effect['value'] == pytest.approx(0.1)
    assert effect['interval'] == pytest.approx((0.1, 0.1))


def test_a_ratio_of_perplexities_weighs_documents_by_their_tokens():
    ratio = stats.perplexity_ratio([20.0, 3.0], [10.0, 2.0], [10, 1])
    assert ratio['value'] == pytest.approx(stats.perplexity([20.0, 3.0], [10, 1]) / stats.perplexity([10.0, 2.0], [10, 1]))
    assert ratio['value'] == pytest.approx(math.exp(11 / 11))


# ---- tables ----

def test_an_experiment_writes_its_table_its_numbers_and_its_figure_and_runs_once(run, tmp_path):
    arguments = [*SENTIMENT, f'--out_dir={tmp_path}', '--figure=boxes', '--show_texts=1', f'--opposite_text={BLAME}', '--steering_scale=2',
                 '--unrelated_text=Trains.', '--steering_layer=1', "--grid=[{'memory_k': [1, 5]}]", f'--publish_dir={tmp_path}/assets']
    code, out, _ = run('evaluate.py', *arguments)
    assert code == 0
    labels = ['plain model', 'text in the prompt', 'memory of an unrelated text', 'memory of the opposite text', 'steering vector', 'k 1',
              'k 5']
    assert list(json.loads(out.splitlines()[-1])['rows']) == labels
    with open(tmp_path / 'evaluate' / 'summary.md') as f:
        summary = f.read()
    assert all(f'| {label} |' in summary for label in labels)
    assert 'seed 1337, k 5:' in summary
    with open(tmp_path / 'evaluate' / 'summary.json') as f:
        rows = json.load(f)['rows']
    records = records_of(tmp_path / 'evaluate')
    assert len(records) == len(labels)
    by_id = {record['id']: record for record in records}
    for row in rows:
        compounds = by_id[row['id']]['samples']['compound']
        assert row['compound']['median'] == pytest.approx(np.median(compounds), abs=1e-5)
        paired = np.subtract(compounds, by_id[rows[0]['id']]['samples']['compound'])
        assert row['effect']['value'] == pytest.approx(np.median(paired), abs=1e-5)
    assert rows[0]['held_out']['value'] == 1.0
    assert records[0]['versions']['torch'] == torch.__version__
    assert sorted(os.listdir(tmp_path / 'assets')) == ['evaluate.json', 'evaluate.md', 'evaluate.png']
    assert os.path.getsize(tmp_path / 'evaluate' / 'figure.png') < 150_000

    assert run('evaluate.py', *arguments)[0] == 0
    assert records_of(tmp_path / 'evaluate') == records


def test_an_effect_is_only_told_against_the_plain_model_at_the_same_task(run, tmp_path):
    arguments = [*SENTIMENT, f'--out_dir={tmp_path}', "--grid=[{'temperature': [0.8, 1.2], 'condition': ['memory', 'plain']}]"]
    assert run('evaluate.py', *arguments)[0] == 0
    with open(tmp_path / 'evaluate' / 'summary.json') as f:
        rows = {row['label']: row for row in json.load(f)['rows']}
    by_id = {record['id']: record for record in records_of(tmp_path / 'evaluate')}
    for temperature in ('0.8', '1.2'):
        memory, plain = (rows[f'temperature {temperature}, condition {how}'] for how in ('memory', 'plain'))
        ours, theirs = (by_id[row['id']]['samples']['compound'] for row in (memory, plain))
        assert memory['effect']['value'] == pytest.approx(np.median(np.subtract(ours, theirs)), abs=1e-5)


def test_runs_tables_and_figures_are_logged_without_a_network(run, tmp_path, monkeypatch):
    import wandb
    logged = []

    class Run:
        log = staticmethod(logged.append)

    monkeypatch.setattr(wandb, 'init', lambda **given: Run)
    monkeypatch.setattr(wandb, 'finish', lambda: None)
    assert run('evaluate.py', *SENTIMENT, f'--out_dir={tmp_path}', '--wandb_log=True', '--figure=boxes', '--controls=False')[0] == 0
    assert {'compound', 'perplexity', 'held_out_perplexity'} <= logged[0].keys()
    assert logged[-1].keys() == {'table', 'figure'}
    assert [row[0] for row in logged[-1]['table'].data] == ['memory']
