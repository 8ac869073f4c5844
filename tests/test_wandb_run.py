"""
Logging to Weights & Biases starts, or says in one line why not.

$ python -m pytest tests/test_wandb_run.py
"""
import os
import subprocess
import sys

import pytest
import wandb
from conftest import ROOT

from core.wandb_run import start_wandb


def test_without_a_key_one_line_names_both_ways_out_before_any_model_is_made(tmp_path):
    nobody = {**{name: value for name, value in os.environ.items() if not name.startswith('WANDB')}, 'HOME': str(tmp_path)}
    run = subprocess.run([sys.executable, os.path.join(ROOT, 'evaluate.py'), '--memory_text=Cats.', '--memory_layers=0',
                          '--wandb_log=True', f'--out_dir={tmp_path}/out', '--init_from=no/such/model'],
                         cwd=tmp_path, env=nobody, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith('error: wandb_log is True, but wandb started no run (')
    assert run.stderr.count('\n') == 1
    assert 'wandb login' in run.stderr
    assert 'WANDB_MODE=offline' in run.stderr
    assert not {'out', 'wandb'} & set(os.listdir(tmp_path)), 'nothing half written'


@pytest.mark.parametrize('error', [wandb.errors.UsageError('no key'), wandb.errors.CommError('no\nnetwork'),
                                   wandb.errors.AuthenticationError('a wrong key'), TimeoutError('90 s')])
def test_whatever_wandb_raises_is_a_value_error_of_one_line(monkeypatch, error):
    def init(**given):
        raise error

    monkeypatch.setattr(wandb, 'init', init)
    with pytest.raises(ValueError, match='wandb login') as caught:
        start_wandb('memory', 'mine', {})
    assert '\n' not in str(caught.value)


def test_wandb_is_given_the_project_the_name_and_the_settings(monkeypatch):
    monkeypatch.setattr(wandb, 'init', lambda **given: given)
    assert start_wandb('memory', 'mine', {'k': 5}) == {'project': 'memory', 'name': 'mine', 'config': {'k': 5}}
