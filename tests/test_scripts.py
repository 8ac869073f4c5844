"""
Training, data sets and tokenizers as a user meets them.

$ python -m pytest tests/test_scripts.py
"""
import os
import runpy
import shutil
import sys

import pytest
import torch
from conftest import ROOT, tiny_model

from load import Tokenizer, load_model, seed_list, tokenizer_of_folder


def test_seeds_are_different_begin_with_the_given_one_and_do_not_depend_on_how_many():
    for seed in (0, 7, 1337):
        seeds = seed_list(seed, 500)
        assert seeds[0] == seed
        assert len(set(seeds)) == 500
        assert seed_list(seed, 20) == seeds[:20]
    assert seed_list(1337, 5) == [1337, 2658, 8932, 2179, 9671]


def test_training_resumes_where_it_stopped_and_exports_a_model_that_loads(run, tmp_path, monkeypatch, folder):
    make_dataset(tmp_path, folder, monkeypatch)
    small = ('--n_layer=1', '--n_head=2', '--n_embd=8', '--block_size=16', '--batch_size=2', '--eval_iters=1', '--dataset=mini',
             '--start_tokens=198', '--dtype=float32', '--device=cpu', '--eval_interval=3', '--lr_decay_iters=6')
    assert run('train.py', *small, '--max_iters=6', '--out_dir=whole', '--export_dir=export', init_from='')[0] == 0
    assert run('train.py', *small, '--max_iters=3', '--out_dir=parts', init_from='')[0] == 0
    assert run('train.py', *small, '--max_iters=6', '--out_dir=parts', '--init_from=resume', init_from='')[0] == 0
    whole, parts = (torch.load(tmp_path / name / 'last.pt', weights_only=True)['model'] for name in ('whole', 'parts'))
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, parts[name], atol=1e-6, rtol=1e-5)
    model, tokenizer = load_model('export')
    assert model.config.n_layer == 1
    assert tokenizer.n_vocab == model.config.vocab_size
    assert 'step 6: train loss' in (tmp_path / 'export' / 'train_log.txt').read_text()
    assert run('train.py', *small, '--max_iters=1', '--out_dir=fine', init_from='export')[0] == 0  # finetuning
    assert run('sample.py', '--out_dir=fine', '--max_new_tokens=3', '--num_samples=1', init_from='resume')[0] == 0


def make_dataset(tmp_path, folder, monkeypatch):
    """data/mini in an empty folder, which becomes the current one."""
    import numpy as np
    monkeypatch.chdir(tmp_path)
    os.makedirs('data/mini')
    shutil.copy(os.path.join(folder, 'tokenizer.json'), 'data/mini')
    ids = tokenizer_of_folder(folder).encode('\nCats are lovely and kind.\nDogs are good.' * 40)
    for split in ('train', 'val'):
        np.array(ids, dtype=np.uint16).tofile(f'data/mini/{split}.bin')


def test_positions_begin_again_only_at_the_start_token_and_only_after_the_first_steps(tmp_path, monkeypatch, folder):
    make_dataset(tmp_path, folder, monkeypatch)
    arguments = ['--dataset=mini', '--start_tokens=198', '--block_size=16', '--restart_positions=1', '--restart_after=5']
    monkeypatch.setattr(sys, 'argv', ['train.py', *arguments])
    train = runpy.run_path(os.path.join(ROOT, 'train.py'))
    train['Batches'].get.__globals__['device'] = 'cpu'
    batches = train['Batches']('train', load_model(folder)[0].config)
    x, targets, pos = batches.get(4)
    assert torch.equal(x[:, 1:], targets[:, :-1])
    assert pos.tolist() == [list(range(16))] * 12
    x, _, pos = batches.get(5)
    assert (x == 198).sum() > 12  # lines begin within rows too
    assert torch.equal(pos == 0, x == 198)
    assert ((pos[:, 1:] - pos[:, :-1] == 1) | (pos[:, 1:] == 0)).all()


def test_the_training_text_is_the_same_for_the_same_settings(run, tmp_path):
    for out in ('a', 'b'):
        arguments = '--train_documents=60', '--val_documents=5', f'--out={tmp_path / out}'
        assert run('data/tinyworld/prepare.py', *arguments, init_from='')[0] == 0
    for name in ('train.bin', 'val.bin', 'tokenizer.json'):
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()


def test_a_character_vocabulary_of_nanogpt_is_read_without_running_code(tmp_path, monkeypatch):
    import pickle
    monkeypatch.chdir(tmp_path)
    os.makedirs('data/chars')
    os.makedirs('out')
    model = tiny_model(vocab_size=3, activation='gelu')
    args = {name: getattr(model.config, name) for name in ('n_layer', 'n_head', 'n_embd', 'block_size', 'bias', 'vocab_size', 'dropout')}
    torch.save({'model': model.state_dict(), 'model_args': args, 'config': {'dataset': 'chars'}}, 'out/ckpt.pt')
    with open('data/chars/meta.pkl', 'wb') as f:
        pickle.dump({'stoi': {'a': 0, 'b': 1, '\n': 2}, 'itos': {0: 'a', 1: 'b', 2: '\n'}, 'vocab_size': 3}, f)
    tokenizer = load_model('resume')[1]
    assert tokenizer.encode('ab\n') == [0, 1, 2]
    assert tokenizer.decode([2, 1]) == '\nb'
    with pytest.raises(ValueError, match="the character 'c' is not in the vocabulary"):
        tokenizer.encode('abc')

    class Run:
        def __reduce__(self):
            return os.system, ('touch ran',)

    with open('data/chars/meta.pkl', 'wb') as f:
        pickle.dump({'stoi': Run(), 'itos': {}}, f)
    with pytest.raises(ValueError, match='no plain dictionary'):
        load_model('resume')
    assert not os.path.exists('ran')


def test_ids_beyond_the_tokenizer_decode_to_the_replacement_character():
    letters = Tokenizer('letters', 3, lambda text: [ord(c) - 97 for c in text], lambda ids: ''.join(chr(97 + i) for i in ids))
    assert letters.decode([0, 7, 1, 2]) == 'a\ufffdbc'
