"""
What evaluate.py writes, prints and logs.

$ python -m pytest tests/test_evaluate.py
"""
import json
import os

import numpy as np
import pytest
import torch
from lab_settings import BLAME, SENTIMENT, records_of

# ---- a sweep ----

def test_an_experiment_writes_its_table_its_numbers_and_its_figure_and_runs_once(run, tmp_path):
    arguments = [*SENTIMENT, f'--out_dir={tmp_path}', '--figure=boxes', '--show_texts=1',
                 f'--opposite_text={BLAME}', '--unrelated_text=Trains.',
                 '--steering_layer=1', '--steering_scale=2', "--grid=[{'memory_k': [1, 5]}]",
                 '--json=True', f'--publish_dir={tmp_path}/assets']
    code, out, _ = run('evaluate.py', *arguments)
    assert code == 0
    labels = ['plain model', 'text in the prompt', 'memory of an unrelated text',
              'memory of the opposite text', 'steering vector', 'k 1', 'k 5']
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


def test_runs_tables_and_figures_are_logged_without_a_network(run, tmp_path, monkeypatch):
    import wandb
    logged = []

    class Run:
        log = staticmethod(logged.append)

    monkeypatch.setattr(wandb, 'init', lambda **given: Run)
    monkeypatch.setattr(wandb, 'finish', lambda: None)
    logging = f'--out_dir={tmp_path}', '--wandb_log=True', '--figure=boxes', '--controls=False'
    assert run('evaluate.py', *SENTIMENT, *logging)[0] == 0
    assert {'compound', 'perplexity', 'held_out_perplexity'} <= logged[0].keys()
    assert logged[-1].keys() == {'table', 'figure'}
    assert [row[0] for row in logged[-1]['table'].data] == ['memory']
