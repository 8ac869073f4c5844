"""
Training: each setting does what it says, every step computed by hand as the oracle; nothing broken is kept.

$ python -m pytest tests/test_train.py
"""
import math
import os
import pathlib
import pickle
import re
import shutil

import numpy as np
import pytest
import torch

from core.batches import Batches, Rows
from load import load_model, tokenizer_of_folder
from model import GPT, GPTConfig

SIZES = ('--n_layer=1', '--n_head=2', '--n_embd=8', '--vocab_size=50', '--block_size=16', '--batch_size=2',
         '--eval_iters=1', '--dataset=abc', '--dtype=float32', '--device=cpu', '--eval_interval=100')
STEADY = {'learning_rate': 1e-2, 'decay_lr': False, 'warmup_iters': 0, 'weight_decay': 0.0, 'grad_clip': 0.0,
          'gradient_accumulation_steps': 1, 'max_iters': 3, 'min_lr': 1e-3, 'lr_decay_iters': 3,
          'beta1': 0.9, 'beta2': 0.95}


def arguments(settings):
    return [f'--{name}={value}' for name, value in settings.items()]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """data/abc in an empty folder, the current one: five of fifty tokens, otherwise in val.bin."""
    monkeypatch.chdir(tmp_path)
    os.makedirs('data/abc')
    (np.arange(4000, dtype=np.uint16) % 5).tofile('data/abc/train.bin')
    (4 - np.arange(4000, dtype=np.uint16) % 5).tofile('data/abc/val.bin')
    return tmp_path


@pytest.fixture
def train(run):
    """train(name=value, ...) -> (exit code, stderr) of the script on that data."""
    def train(**settings):
        code, _, err = run('train.py', *SIZES, *arguments(settings), init_from='')
        return code, err
    return train


def read(path):
    return torch.load(path, weights_only=True)


def val_losses(out_dir='out'):
    """{step: validation loss} of a run's log."""
    with open(os.path.join(out_dir, 'log.txt')) as f:
        evaluations = re.findall(r'step (\d+): .* val loss ([\d.]+)', f.read())
    return {int(step): float(loss) for step, loss in evaluations}


# ---- every control, against training by hand ----

def by_hand(s):
    """The weights after max_iters steps of AdamW (Loshchilov, Hutter 2019, algorithm 2), one by one."""
    torch.manual_seed(1337)
    model = GPT(GPTConfig(block_size=16, vocab_size=50, n_layer=1, n_head=2, n_embd=8))
    batches = Batches('data/abc/train.bin', 'train', Rows(2, 16, (), 0.0, 0, 1337), 50)
    params = list(model.parameters())
    state = [[torch.zeros_like(p), torch.zeros_like(p)] for p in params]
    for step in range(s['max_iters']):
        lr, n = rate(s, step), s['gradient_accumulation_steps']
        grads = [torch.zeros_like(p) for p in params]
        for micro in range(n):
            x, targets, pos = batches.get(step * n + micro, 'cpu')
            one = torch.autograd.grad(model(x, targets, pos=pos)[1], params)
            grads = [a + b / n for a, b in zip(grads, one)]
        norm = math.sqrt(sum((g ** 2).sum().item() for g in grads))
        scale = min(1.0, s['grad_clip'] / norm) if s['grad_clip'] else 1.0
        with torch.no_grad():
            for p, g, (m, v) in zip(params, grads, state):
                m.mul_(s['beta1']).add_((1 - s['beta1']) * scale * g)
                v.mul_(s['beta2']).add_((1 - s['beta2']) * (scale * g) ** 2)
                p -= lr * (s['weight_decay'] if p.dim() >= 2 else 0) * p
                m_hat, v_hat = m / (1 - s['beta1'] ** (step + 1)), v / (1 - s['beta2'] ** (step + 1))
                p -= lr * m_hat / (v_hat.sqrt() + 1e-8)
    return model.state_dict()


def rate(s, step):
    if step < s['warmup_iters']:
        return s['learning_rate'] * (step + 1) / (s['warmup_iters'] + 1)
    if not s['decay_lr']:
        return s['learning_rate']
    share = (step - s['warmup_iters']) / (s['lr_decay_iters'] - s['warmup_iters'])
    return s['min_lr'] + (s['learning_rate'] - s['min_lr']) * (1 + math.cos(math.pi * share)) / 2


def farthest(a, b):
    return max((a[name] - b[name]).abs().max().item() for name in a)


@pytest.mark.parametrize(('control', 'off'), [
    ({'learning_rate': 1e-2}, {'learning_rate': 0.0}),
    ({'gradient_accumulation_steps': 3}, {'gradient_accumulation_steps': 1}),
    ({'grad_clip': 1e-7}, {'grad_clip': 0.0}),
    ({'weight_decay': 5.0}, {'weight_decay': 0.0}),
    ({'decay_lr': True}, {'decay_lr': False}),
    ({'warmup_iters': 2}, {'warmup_iters': 0}),
    ({'beta2': 0.5}, {'beta2': 0.95}),
], ids=lambda settings: next(iter(settings)))
def test_training_with_a_control_is_training_by_hand_with_it_and_not_without(data, train, control, off):
    assert train(**{**STEADY, **control})[0] == 0
    trained = read('out/last.pt')['model']
    assert farthest(trained, by_hand({**STEADY, **control})) < 1e-5
    without = by_hand({**STEADY, **control, **off})
    assert farthest(trained, without) > 1e-4, 'or the control is not what is tested'


# ---- what is kept, and what is exported ----

def test_the_best_by_validation_loss_is_kept_and_exported_and_the_log_says_which_step(data, train):
    assert train(**{**STEADY, 'learning_rate': 3e-2, 'max_iters': 40}, eval_interval=4,
                 export_dir='export')[0] == 0
    losses = val_losses()
    best = min(losses, key=losses.get)
    assert 0 < best < 40, 'or the best is not told from the first and the last'
    kept = read('out/ckpt.pt')
    assert (kept['iter_num'], read('out/last.pt')['iter_num']) == (best, 40)
    torch.testing.assert_close(kept['best_val_loss'], losses[best], atol=1e-4, rtol=0)
    exported = GPT.from_pretrained('export').state_dict()
    assert all(torch.equal(exported[name], w.half().float()) for name, w in kept['model'].items())
    assert f'exported step {best}\n' in (data / 'export' / 'train_log.txt').read_text()


def test_the_last_is_kept_where_that_is_asked_for(data, train):
    assert train(**{**STEADY, 'learning_rate': 3e-2, 'max_iters': 40}, eval_interval=4, export_dir='export',
                 always_save_checkpoint=True)[0] == 0
    assert read('out/ckpt.pt')['iter_num'] == 40
    assert 'exported step 40\n' in (data / 'export' / 'train_log.txt').read_text()


def test_untrained_weights_are_not_exported_as_trained(data, train):
    code, err = train(**{**STEADY, 'learning_rate': 0.0}, export_dir='export')
    assert code == 1
    assert 'error: no evaluation was better than that of step 0' in err
    assert not os.path.exists('export')


@pytest.mark.parametrize('eval_interval', [1, 20])
def test_a_loss_that_is_no_number_stops_and_leaves_the_last_good_checkpoint(data, train, eval_interval):
    code, err = train(**{**STEADY, 'learning_rate': 1e30, 'max_iters': 40}, eval_interval=eval_interval,
                      export_dir='export')
    assert code == 1
    assert re.search(r'error: the .*loss of step \d+ is (nan|inf), training stops: lower learning_rate', err)
    assert not os.path.exists('export')
    for name in ('ckpt.pt', 'last.pt'):
        kept = read(f'out/{name}')
        assert math.isfinite(kept['best_val_loss'])
        assert all(w.isfinite().all() for w in kept['model'].values())


def test_an_export_without_a_tokenizer_in_the_data_gets_that_of_the_model_it_began_from(data, train, folder):
    fine = {**STEADY, 'max_iters': 1, 'eval_interval': 1}
    assert train(**fine, init_from=folder, export_dir='export')[0] == 0
    assert tokenizer_of_folder('export').name == tokenizer_of_folder(folder).name
    # a chain of runs
    assert train(**{**fine, 'max_iters': 2}, init_from='resume', export_dir='again')[0] == 0
    assert tokenizer_of_folder('again').name == tokenizer_of_folder(folder).name


# ---- going on ----

def test_training_resumes_where_it_stopped_and_the_export_loads(run, tmp_path, monkeypatch, folder):
    make_dataset(tmp_path, folder, monkeypatch)
    small = ('--n_layer=1', '--n_head=2', '--n_embd=8', '--block_size=16', '--batch_size=2',
             '--eval_iters=1', '--dataset=mini', '--start_tokens=198', '--dtype=float32', '--device=cpu',
             '--eval_interval=3', '--lr_decay_iters=6')
    assert run('train.py', *small, '--max_iters=6', '--out_dir=whole', '--export_dir=export',
               init_from='')[0] == 0
    assert run('train.py', *small, '--max_iters=3', '--out_dir=parts', init_from='')[0] == 0
    assert run('train.py', *small, '--max_iters=6', '--out_dir=parts', '--init_from=resume',
               init_from='')[0] == 0
    whole, parts = (read(f'{name}/last.pt')['model'] for name in ('whole', 'parts'))
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, parts[name], atol=1e-6, rtol=1e-5)
    model, tokenizer = load_model('export')
    assert model.config.n_layer == 1
    assert tokenizer.n_vocab == model.config.vocab_size
    assert 'step 6: train loss' in (tmp_path / 'export' / 'train_log.txt').read_text()
    assert run('train.py', *small, '--max_iters=1', '--out_dir=fine', init_from='export')[0] == 0
    assert run('sample.py', '--out_dir=fine', '--max_new_tokens=3', '--num_samples=1',
               init_from='resume')[0] == 0


def make_dataset(tmp_path, folder, monkeypatch):
    """data/mini in an empty folder, which becomes the current one."""
    monkeypatch.chdir(tmp_path)
    os.makedirs('data/mini')
    shutil.copy(os.path.join(folder, 'tokenizer.json'), 'data/mini')
    ids = tokenizer_of_folder(folder).encode('\nCats are lovely and kind.\nDogs are good.' * 40)
    for split in ('train', 'val'):
        np.array(ids, dtype=np.uint16).tofile(f'data/mini/{split}.bin')


def test_a_run_of_nanogpt_goes_on_from_its_one_checkpoint(data, train):
    assert train(**STEADY, out_dir='ours')[0] == 0
    theirs = read('ours/last.pt')
    del theirs['seconds']
    theirs['model'] = {f'_orig_mod.{name}': w for name, w in theirs['model'].items()}
    theirs['best_val_loss'] = torch.tensor(theirs['best_val_loss'])
    os.makedirs('theirs')
    torch.save(theirs, 'theirs/ckpt.pt')
    for out_dir in ('ours', 'theirs'):
        code, err = train(**{**STEADY, 'max_iters': 6}, out_dir=out_dir, init_from='resume')
        assert code == 0
        assert ('note: no theirs/last.pt, going on from theirs/ckpt.pt' in err) == (out_dir == 'theirs')
    assert farthest(read('ours/last.pt')['model'], read('theirs/last.pt')['model']) == 0


def test_a_resumed_run_takes_the_optimizers_settings_that_are_given_now(data, train):
    assert train(**STEADY)[0] == 0
    assert train(**{**STEADY, 'max_iters': 4, 'weight_decay': 0.7, 'beta2': 0.5}, init_from='resume')[0] == 0
    matrices, others = read('out/last.pt')['optimizer']['param_groups']
    assert (matrices['weight_decay'], others['weight_decay']) == (0.7, 0.0)
    assert tuple(matrices['betas']) == (0.9, 0.5)


def test_what_cannot_be_resumed_says_how_to_go_on(data, train):
    assert train(**STEADY)[0] == 0
    code, err = train(**{**STEADY, 'max_iters': 2}, init_from='resume')
    assert (code, 'is at step 3, max_iters is 2: raise max_iters' in err) == (1, True)
    bare = read('out/last.pt')
    del bare['optimizer']
    os.makedirs('bare')
    torch.save(bare, 'bare/ckpt.pt')
    code, err = train(**STEADY, out_dir='bare', init_from='resume')
    assert (code, "bare/ckpt.pt cannot be resumed, it holds no 'optimizer'" in err) == (1, True)
    code, err = train(**STEADY, init_from='bare')
    assert (code, '--init_from=resume --out_dir=bare' in err) == (1, True)
    GPT.from_checkpoint('bare/ckpt.pt').save_pretrained('bare/model')  # as the message says
    assert "GPT.from_checkpoint('bare/ckpt.pt').save_pretrained('bare/model')" in train(
        **STEADY, out_dir='bare', init_from='resume')[1]
    assert train(**STEADY, out_dir='fine', init_from='bare/model')[0] == 0


def snapshot(folder):
    """{path: its content} of all files below."""
    return {path: path.read_bytes() for path in pathlib.Path(folder).rglob('*') if path.is_file()}


@pytest.mark.parametrize('init_from', ['scratch', 'resume', 'folder'])
def test_eval_only_evaluates_once_and_writes_nothing(data, train, run, folder, init_from):
    if init_from == 'resume':
        assert train(**STEADY)[0] == 0
    before = snapshot('.')
    code, out, _ = run('train.py', *SIZES, *arguments(STEADY), '--eval_only=True', '--export_dir=export',
                       '--wandb_log=True',
                       f'--init_from={folder if init_from == "folder" else init_from}', init_from='')
    assert code == 0
    assert re.fullmatch(r'step (0|3): train loss [\d.]+, val loss ([\d.]+), lr .*\n', out)
    assert snapshot('.') == before
    if init_from == 'resume':
        assert float(re.search(r'val loss ([\d.]+)', out)[1]) == val_losses()[3]


# ---- the data ----

def test_a_model_from_scratch_has_the_vocabulary_of_its_data(data, train):
    letters = dict(zip('abcd\n', range(5)))
    for meta in ({'vocab_size': 5, 'stoi': letters, 'itos': {i: c for c, i in letters.items()}},
                 {'vocab_size': 7}):
        with open('data/abc/meta.pkl', 'wb') as f:
            pickle.dump(meta, f)
        assert train(**STEADY)[0] == 0
        assert read('out/ckpt.pt')['model_args']['vocab_size'] == meta['vocab_size']


@pytest.mark.parametrize('dataset', ['~/mine', '{home}/mine'])
def test_a_data_set_may_lie_in_the_home_folder_or_at_an_absolute_path(data, train, monkeypatch, dataset):
    monkeypatch.setenv('HOME', str(data))
    os.rename('data/abc', 'mine')
    letters = dict(zip('abcd\n', range(5)))
    with open('mine/meta.pkl', 'wb') as f:
        pickle.dump({'stoi': letters, 'itos': {i: c for c, i in letters.items()}}, f)
    code, err = train(**STEADY, dataset=dataset.format(home=data))
    assert code == 0, err
    assert load_model('resume', 'out')[1].encode('ab') == [0, 1]


def test_data_of_another_vocabulary_than_the_model_to_finetune_is_refused(data, train, folder):
    with open('data/abc/meta.pkl', 'wb') as f:
        pickle.dump({'stoi': {'a': 0}, 'itos': {0: 'a'}}, f)
    code, err = train(**STEADY, init_from=folder)
    assert (code, 'has a vocabulary of 1 (meta.pkl)' in err) == (1, True)
    assert not os.path.exists('out')


# ---- around it ----

def test_wandb_without_a_key_is_one_line_before_a_model_is_made(data, train, monkeypatch):
    import wandb

    def init(**_):
        raise wandb.errors.UsageError('no key')

    monkeypatch.setattr(wandb, 'init', init)
    code, err = train(**STEADY, wandb_log=True, init_from='./no-such-model')
    assert code == 1
    assert err.startswith('error: wandb_log is True')
    assert err.count('\n') == 1
    assert not os.path.exists('out')


def test_wandb_gets_every_evaluation(data, train, monkeypatch):
    import wandb
    logged = []
    monkeypatch.setattr(wandb, 'init', lambda **_: type('Run', (), {'log': logged.append}))
    assert train(**STEADY, wandb_log=True, eval_interval=2)[0] == 0
    assert [numbers['iter'] for numbers in logged] == [0, 2, 3]
    assert [round(numbers['val/loss'], 4) for numbers in logged] == list(val_losses().values())


def test_threads_are_those_that_are_asked_for(data, train):
    before = torch.get_num_threads()
    try:
        assert train(**STEADY, threads=2)[0] == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    code, err = train(**STEADY, threads=-1)
    assert (code, 'threads is -1' in err) == (1, True)
