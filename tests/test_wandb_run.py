"""
Logging to Weights & Biases starts, or says in one line why not.

$ python -m pytest tests/test_wandb_run.py
"""
import os

import pytest
import wandb

from core.wandb_run import start_wandb


def test_without_a_key_one_line_names_both_ways_out_before_any_model_is_made(run, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith('WANDB')]:
        monkeypatch.delenv(name)
    monkeypatch.setenv('HOME', str(tmp_path))  # where keys are kept
    monkeypatch.chdir(tmp_path)
    code, out, err = run('evaluate.py', '--memory_text=Cats.', '--memory_layers=0', '--wandb_log=True',
                         init_from='no/such/model')
    assert (code, out, err.count('\n')) == (1, '', 1)
    assert err.startswith('error: wandb_log is True, but wandb started no run (')
    assert 'wandb login' in err
    assert 'WANDB_MODE=offline' in err
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
    expected = {'project': 'memory', 'name': 'mine', 'config': {'k': 5}}
    assert start_wandb('memory', 'mine', {'k': 5}) == expected
