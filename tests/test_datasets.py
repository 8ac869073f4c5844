"""
What a data set of nanoGPT was encoded with: its tokenizer, its characters, or a refusal.

$ python -m pytest tests/test_datasets.py
"""
import os
import pickle

import pytest
from test_tokenizers import TEXT, slow, trained

from core.datasets import check_dataset, tokenizer_files, tokenizer_of_checkpoint
from core.tokenizers import GPT2_SIZE

LETTERS = {'stoi': {'a': 0, 'b': 1, '\n': 2}, 'itos': {0: 'a', 1: 'b', 2: '\n'}, 'vocab_size': 3}


@pytest.fixture
def meta(tmp_path, monkeypatch):
    """meta(content, vocab_size) -> the tokenizer of a checkpoint whose data set has that meta.pkl."""
    def write(content, vocab_size=3):
        with open('data/mine/meta.pkl', 'wb') as f:
            pickle.dump(content, f)
        return tokenizer_of_checkpoint({'config': {'dataset': 'mine'}}, vocab_size)

    monkeypatch.chdir(tmp_path)
    os.makedirs('data/mine')
    return write


def test_a_character_vocabulary_of_nanogpt_is_read_without_running_code(meta):
    tokenizer = meta(LETTERS)
    assert tokenizer.encode('ab\n') == [0, 1, 2]
    assert tokenizer.decode([2, 1]) == '\nb'
    assert tokenizer.answers_to('mine')
    with pytest.raises(ValueError, match="the character 'c' is not in the vocabulary"):
        tokenizer.encode('abc')

    class Run:
        def __reduce__(self):
            return os.system, ('touch ran',)

    with pytest.raises(ValueError, match='no plain dictionary'):
        meta({'stoi': Run(), 'itos': {}})
    assert not os.path.exists('ran')


@pytest.mark.parametrize(('content', 'vocab_size', 'message'), [
    (LETTERS, GPT2_SIZE, 'holds 3 characters, the model has a vocabulary of 50257'),
    (LETTERS, 2, 'holds 3 characters, the model has a vocabulary of 2'),
    ({'vocab_size': 100}, 100, r'holds a vocab_size \(100\), but no characters'),
    ({'stoi': {'cat': 0, 'dog': 1}, 'itos': {0: 'cat', 1: 'dog'}}, 2,
     r"holds words \('cat'\), only a vocabulary of single"),
    ({'stoi': {'a': 0}, 'itos': {}}, 1, 'do not undo each other'),
    ({'stoi': {'a': 0, 'b': 0}, 'itos': {0: 'a'}}, 2, 'do not undo each other'),
    ({'stoi': 'ab', 'itos': 'ab'}, 2, 'do not undo each other'),
    ({'chars': 'ab'}, 2, 'holds neither'),
    ([1], 2, 'holds neither'),
])
def test_a_meta_file_that_is_not_the_models_is_refused(meta, content, vocab_size, message):
    with pytest.raises(ValueError, match=message):
        meta(content, vocab_size)


def test_a_padded_vocabulary_of_characters_is_read(meta):
    assert meta(LETTERS, 64).encode('ab') == [0, 1]


def test_a_size_alone_is_gpt2s_encoding_for_a_model_that_has_it(meta, gpt2, capsys):
    assert meta({'vocab_size': 50304}, 50304).encode('cat') == [9246]
    assert "GPT-2's own byte-pair encoding is taken" in capsys.readouterr().err


def test_a_finetuned_checkpoint_without_a_tokenizer_has_that_of_its_first_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    slow(tmp_path / 'base', trained())
    checkpoint = {'config': {'dataset': 'mine', 'init_from': 'base'}}
    assert tokenizer_of_checkpoint(checkpoint, GPT2_SIZE).encode(TEXT) == trained().encode(TEXT).ids


def test_training_data_of_another_tokenizer_than_the_models_is_refused(tmp_path):
    for name, special in (('data', ()), ('same', ()), ('other', ['<s>'])):
        os.makedirs(tmp_path / name)
        trained(special).save(str(tmp_path / name / 'tokenizer.json'))
    data = str(tmp_path / 'data')
    check_dataset(data, 300, 'scratch')
    check_dataset(data, 300, str(tmp_path / 'same'))
    with pytest.raises(ValueError, match='was encoded with the tokenizer'):
        check_dataset(data, 300, str(tmp_path / 'other'))
    with pytest.raises(ValueError, match="has 'gpt2'"):
        check_dataset(data, GPT2_SIZE, 'gpt2')
    with pytest.raises(ValueError, match='has ids up to'):
        check_dataset(data, 100, 'scratch')


def test_the_files_of_an_export_are_the_data_sets_or_else_those_of_the_model_it_began_from(tmp_path):
    trained().save(str(tmp_path / 'tokenizer.json'))
    (slow(tmp_path / 'base', trained()) / 'chat_template.jinja').write_text('of a chat')
    assert tokenizer_files(str(tmp_path), 'scratch') == [str(tmp_path / 'tokenizer.json')]
    none = str(tmp_path / 'none')
    of_base = tokenizer_files(none, str(tmp_path / 'base'))
    assert sorted(map(os.path.basename, of_base)) == ['chat_template.jinja', 'merges.txt', 'vocab.json']
    assert tokenizer_files(none, 'scratch') == tokenizer_files(none, 'gpt2') == []
