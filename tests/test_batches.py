"""
Training data: its making, and the rows that are drawn from it.

$ python -m pytest tests/test_batches.py
"""
import os
import re

import numpy as np
import pytest
import torch
from conftest import ROOT
from test_train import make_dataset

import core.batches
from core.batches import Batches, Rows, look_through

ROWS = Rows(3, 4, (), 0.0, 0, 5)


@pytest.mark.parametrize('size_bytes', [0, 1, 7])
def test_a_file_that_holds_no_whole_tokens_is_refused(tmp_path, size_bytes):
    (tmp_path / 'train.bin').write_bytes(b'\x01' * size_bytes)
    with pytest.raises(ValueError, match=f'holds {size_bytes} bytes, expected token ids of two bytes each'):
        Batches(str(tmp_path / 'train.bin'), 'train', ROWS, 50)


def test_too_few_tokens_and_ids_beyond_the_vocabulary_are_refused(tmp_path):
    path = str(tmp_path / 'train.bin')
    np.arange(5, dtype=np.uint16).tofile(path)
    assert Batches(path, 'train', ROWS, 5).get(0, 'cpu')[0].tolist() == [[0, 1, 2, 3]] * 3
    with pytest.raises(ValueError, match='holds the token id 4, the model\'s vocabulary is 4'):
        Batches(path, 'train', ROWS, 4)
    with pytest.raises(ValueError, match='holds 5 tokens, too few for one row of 5'):
        Batches(path, 'train', Rows(3, 5, (), 0.0, 0, 5), 50)
    with pytest.raises(ValueError, match='too few for one row'):
        Batches(path, 'train', Rows(3, 4, (3,), 0.0, 0, 5), 50)


@pytest.mark.parametrize('start_tokens', [(), (1,), (1, 1), (1, 0, 1)])
def test_a_file_is_looked_through_in_blocks_with_the_same_result(monkeypatch, start_tokens):
    tokens = np.random.default_rng(0).integers(0, 3, 500).astype(np.uint16)
    tokens[417] = 9
    sizes = []

    class Spy:
        def __len__(self):
            return len(tokens)

        def __getitem__(self, part):
            sizes.append(len(tokens[part]))
            return tokens[part]

    monkeypatch.setattr(core.batches, 'TOKENS_A_BLOCK', 7)
    highest, found = look_through(Spy(), start_tokens)
    assert highest == 9
    n = len(start_tokens)
    assert found.tolist() == [i for i in range(n - 1, 500) if n
                              and tuple(tokens[i - n + 1:i + 1]) == start_tokens]
    assert max(sizes) <= 7 + 2


@pytest.mark.parametrize('start_tokens', [(), (2,)])
def test_rows_are_those_that_numpy_chooses_among_all_starts(tmp_path, start_tokens):
    tokens = np.random.default_rng(0).integers(0, 5, 300).astype(np.uint16)
    tokens.tofile(tmp_path / 'train.bin')
    batches = Batches(str(tmp_path / 'train.bin'), 'train', Rows(4, 6, start_tokens, 0.0, 0, 11), 5)
    starts = [i for i in range(300 - 6) if not start_tokens or tokens[i] == 2]
    for step in range(5):
        chosen = np.random.default_rng((11, 0, step)).choice(starts, 4)
        x, targets, pos = batches.get(step, 'cpu')
        assert x.tolist() == [tokens[i:i + 6].tolist() for i in chosen]
        assert targets.tolist() == [tokens[i + 1:i + 7].tolist() for i in chosen]
        assert pos.tolist() == [list(range(6))] * 4


def test_positions_begin_again_only_at_the_start_token_after_the_first_steps(tmp_path, monkeypatch, folder):
    make_dataset(tmp_path, folder, monkeypatch)
    batches = Batches('data/mini/train.bin', 'train', Rows(12, 16, (198,), 1.0, 5, 1337), 2048)
    x, targets, pos = batches.get(4, 'cpu')
    assert torch.equal(x[:, 1:], targets[:, :-1])
    assert pos.tolist() == [list(range(16))] * 12
    x, _, pos = batches.get(5, 'cpu')
    assert (x == 198).sum() > 12  # lines begin within rows too
    assert torch.equal(pos == 0, x == 198)
    assert ((pos[:, 1:] - pos[:, :-1] == 1) | (pos[:, 1:] == 0)).all()


# ---- data/tinyworld/prepare.py ----

def test_the_training_text_is_the_same_for_the_same_settings(run, tmp_path):
    for out in ('a', 'b'):
        arguments = '--train_documents=60', '--val_documents=5', f'--out={tmp_path / out}'
        assert run('data/tinyworld/prepare.py', *arguments, init_from='')[0] == 0
    for name in ('train.bin', 'val.bin', 'tokenizer.json'):
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()


def test_a_text_is_encoded_whole_with_a_tokenizer_that_was_saved_to_cut_and_to_frame(run, tmp_path):
    import tokenizers
    source = os.path.join(ROOT, 'assets', 'tinyworld', 'tokenizer.json')
    own = tokenizers.Tokenizer.from_file(source)
    own.enable_truncation(max_length=3)
    own.post_processor = tokenizers.processors.TemplateProcessing(single='! $A', special_tokens=[('!', 0)])
    own.save(str(tmp_path / 'tokenizer.json'))
    for out, file in (('a', source), ('b', tmp_path / 'tokenizer.json')):
        arguments = '--train_documents=20', '--val_documents=5', f'--out={tmp_path / out}'
        assert run('data/tinyworld/prepare.py', *arguments, f'--tokenizer_file={file}', init_from='')[0] == 0
    assert (tmp_path / 'a' / 'train.bin').read_bytes() == (tmp_path / 'b' / 'train.bin').read_bytes()


@pytest.mark.parametrize('tokens', [5, 70000])
def test_a_tokenizer_that_does_not_fit_the_text_is_one_line_and_writes_nothing(run, tmp_path, tokens):
    import tokenizers
    vocabulary = {f'w{i}': i for i in range(tokens)}
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token='[UNK]'))
    own.save(str(tmp_path / 'tokenizer.json'))
    code, _, err = run('data/tinyworld/prepare.py', '--train_documents=2', '--val_documents=1',
                       f'--out={tmp_path / "out"}',
                       f'--tokenizer_file={tmp_path / "tokenizer.json"}', init_from='')
    assert code == 1
    assert re.search('error: .*tokenizer.json', err.splitlines()[-1])
    assert not os.path.exists(tmp_path / 'out')
