"""
Tokenizers: what a model or a data set brings is used or refused by name, and a text comes back whole.

$ python -m pytest tests/test_tokenizers.py
"""
import json
import os
import shutil

import pytest
import tokenizers
from conftest import ROOT
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from core.tokenizers import (
    GPT2_SIZE,
    Tokenizer,
    can_lose,
    name_of,
    tokenizer_of_folder,
    tokenizer_of_model,
)
from load import load_model

TEXT = 'il gatto dorme, la luna no'


def trained(special=()):
    """A byte-level BPE of the tokenizers library, as GPT-2's but small: the oracle."""
    own = tokenizers.Tokenizer(models.BPE())
    own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    own.train_from_iterator(['il gatto dorme sul tetto e la luna guarda il gatto'] * 9, trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=list(special)))
    return own


def write_json(folder, **files):
    for name, content in files.items():
        (folder / f'{name}.json').write_text(json.dumps(content))


def slow(folder, own):
    """The files of GPT2Tokenizer."""
    os.makedirs(folder, exist_ok=True)
    own.model.save(str(folder))
    return folder


# ---- a folder's own ----

def test_vocab_and_merges_are_read_as_they_were_trained(tmp_path):
    own = trained()
    tokenizer = tokenizer_of_model(str(slow(tmp_path, own)), GPT2_SIZE)
    assert tokenizer.encode(TEXT) == own.encode(TEXT).ids
    assert tokenizer.decode(tokenizer.encode(TEXT + ' 猫é\n')) == TEXT + ' 猫é\n'


def test_a_space_in_front_is_added_where_the_settings_say_so(tmp_path):
    write_json(slow(tmp_path, trained()), tokenizer_config={'add_prefix_space': True})
    tokenizer = tokenizer_of_folder(str(tmp_path))
    assert tokenizer.encode('gatto') == trained().encode(' gatto').ids


def test_another_class_of_tokenizer_in_the_same_files_is_refused(tmp_path):
    write_json(slow(tmp_path, trained()), tokenizer_config={'tokenizer_class': 'CLIPTokenizer'})
    with pytest.raises(ValueError, match='CLIPTokenizer'):
        tokenizer_of_folder(str(tmp_path))


@pytest.mark.parametrize('kind', ['slow', 'fast'])
def test_added_and_special_tokens_are_whole_tokens_with_their_ids(tmp_path, kind):
    own = trained(['<|endoftext|>'])
    size = own.get_vocab_size()
    slow(tmp_path, own) if kind == 'slow' else own.save(str(tmp_path / 'tokenizer.json'))
    write_json(tmp_path, added_tokens={'<b>': size + 1, '<speaker 1>': size},
               special_tokens_map={'eos_token': {'content': '<|endoftext|>'},
                                   'additional_special_tokens': ['<b>']})
    tokenizer = tokenizer_of_folder(str(tmp_path))
    assert tokenizer.encode('<|endoftext|><b><speaker 1>') == [0, size + 1, size]
    assert tokenizer.n_vocab == size + 2
    text = 'il gatto.<|endoftext|><b>la luna<speaker 1>'
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_tokens_that_only_the_settings_name_are_known_too(tmp_path):
    trained().save(str(tmp_path / 'tokenizer.json'))
    size = trained().get_vocab_size()
    write_json(tmp_path, tokenizer_config={
        'added_tokens_decoder': {str(size): {'content': '<|im_end|>', 'special': True}},
        'eos_token': '<|im_end|>', 'add_bos_token': False, 'model_max_length': 5})
    assert tokenizer_of_folder(str(tmp_path)).encode('<|im_end|>') == [size]


def test_an_added_token_with_an_id_that_cannot_be_is_refused(tmp_path):
    slow(tmp_path, trained())
    write_json(tmp_path, added_tokens={'<b>': 400})
    with pytest.raises(ValueError, match="the added token '<b>' the id 400"):
        tokenizer_of_folder(str(tmp_path))


@pytest.mark.parametrize('files', [
    {'added_tokens': {'<b>': '2048'}}, {'added_tokens': {'<b>': '2048', '<c>': 300}},
    {'tokenizer_config': {'added_tokens_decoder': {'last': {'content': '<b>'}}}}], ids=str)
def test_an_id_that_is_no_number_is_called_so(tmp_path, files):
    write_json(slow(tmp_path, trained()), **files)
    with pytest.raises(ValueError, match=r"added .*'<b>' has the id '\w+', which is no whole number"):
        tokenizer_of_folder(str(tmp_path))


@pytest.mark.parametrize('value', ['<image>', {'content': '<image>', 'lstrip': False}], ids=str)
def test_extra_special_tokens_may_be_a_dictionary_of_names(tmp_path, value):
    trained().save(str(tmp_path / 'tokenizer.json'))
    size = trained().get_vocab_size()
    write_json(tmp_path, tokenizer_config={'extra_special_tokens': {'image_token': value}})
    assert tokenizer_of_folder(str(tmp_path)).encode('<image>') == [size]
    write_json(tmp_path, tokenizer_config={'extra_special_tokens': {}})
    assert tokenizer_of_folder(str(tmp_path)).n_vocab == size


@pytest.mark.parametrize('added', [[1], {'<b>': 'x'}])
def test_added_tokens_of_another_kind_are_refused(tmp_path, added):
    slow(tmp_path, trained())
    write_json(tmp_path, added_tokens=added)
    with pytest.raises(ValueError, match='added'):
        tokenizer_of_folder(str(tmp_path))


@pytest.mark.parametrize('spoil', ['truncation', 'padding', 'post_processor'])
def test_what_a_trainer_left_in_the_file_neither_cuts_nor_fills_up_nor_frames_a_text(tmp_path, spoil):
    own = trained(['<s>'])
    plain = own.encode(TEXT).ids
    if spoil == 'truncation':
        own.enable_truncation(max_length=2)
    if spoil == 'padding':
        own.enable_padding(length=99, pad_id=0)
    if spoil == 'post_processor':
        own.post_processor = processors.TemplateProcessing(single='<s> $A <s>', special_tokens=[('<s>', 0)])
    own.save(str(tmp_path / 'tokenizer.json'))
    assert tokenizer_of_folder(str(tmp_path)).encode(TEXT) == plain


def test_a_chance_that_a_trainer_left_in_the_file_is_switched_off(tmp_path):
    own = trained()
    plain = own.encode(TEXT).ids
    own.model.dropout = 0.5
    own.save(str(tmp_path / 'tokenizer.json'))
    tokenizer = tokenizer_of_folder(str(tmp_path))
    assert [tokenizer.encode(TEXT) for _ in range(9)] == [plain] * 9


@pytest.mark.parametrize('name', ['vocab.txt', 'spiece.model', 'tokenizer.model', 'sentencepiece.bpe.model',
                                  'vocab.json', 'merges.txt', 'qwen.tiktoken', 'encoder.json', 'vocab.bpe',
                                  'tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json'])
def test_tokenizers_of_other_formats_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text('x')
    with pytest.raises(ValueError, match=f'not read here \\({name}\\)'):
        tokenizer_of_model(str(tmp_path), GPT2_SIZE)


@pytest.mark.parametrize('content', ['', '{', '{"a": 1}', 'version https://git-lfs.github.com/spec/v1\noid'])
@pytest.mark.parametrize('name', ['tokenizer.json', 'vocab.json'])
def test_a_damaged_tokenizer_is_refused_in_one_line(tmp_path, name, content):
    slow(tmp_path, trained())
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match='fetch or save|git lfs pull') as error:
        tokenizer_of_folder(str(tmp_path))
    assert '\n' not in str(error.value)


def test_what_the_library_cannot_encode_is_one_line(tmp_path):
    own = tokenizers.Tokenizer(models.WordLevel({'cat': 0}, unk_token='[UNK]'))
    own.save(str(tmp_path / 'tokenizer.json'))
    with pytest.raises(ValueError, match='cannot encode the text'):
        tokenizer_of_folder(str(tmp_path)).encode('dog')


def of_few_tokens(kind):
    """-> a BPE that has no token for most characters, a text, and the first character it would lose."""
    own = tokenizers.Tokenizer(models.BPE({'H': 0, 'C': 1}, []))
    if kind == 'added token':
        own.add_tokens(['<b>'])
        return own, 'H<b>Cats', 'a'
    if kind == 'lower case':
        own.normalizer = normalizers.Lowercase()
        return own, 'Hello', 'H'
    if kind == 'bytes':
        own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return own, 'HCé', 'é'
    if kind == 'some bytes':
        tokens = {'H': 0, **{f'<0x{byte:02X}>': byte + 1 for byte in range(128)}}
        return tokenizers.Tokenizer(models.BPE(tokens, [], byte_fallback=True)), 'Hello, 猫!!!', '猫'
    return own, 'Hello Cats', 'e'


@pytest.mark.parametrize('kind', ['characters', 'added token', 'lower case', 'bytes', 'some bytes'])
def test_a_character_without_a_token_is_refused_by_name_and_does_not_vanish(tmp_path, kind):
    own, text, lost = of_few_tokens(kind)
    own.save(str(tmp_path / 'tokenizer.json'))
    tokenizer = tokenizer_of_folder(str(tmp_path))
    with pytest.raises(ValueError, match=f"the character '{lost}' is not in the vocabulary of the tokenizer"):
        tokenizer.encode(text)
    known = 'C<b>' if kind == 'added token' else 'H'
    if kind != 'lower case':  # which knows nothing
        assert tokenizer.encode(known) == own.encode(known).ids
    assert tokenizer.name == name_of(own.get_vocab())
    assert tokenizer.n_vocab == own.get_vocab_size()
    assert tokenizer.decode([0, own.get_vocab_size()]).endswith('\ufffd')


def test_of_vocab_and_merges_a_character_without_a_token_is_refused_too(tmp_path):
    write_json(tmp_path, vocab={'H': 0, 'C': 1})
    (tmp_path / 'merges.txt').write_text('#version: 0.2\n')
    with pytest.raises(ValueError, match="the character 'e' is not in the vocabulary"):
        tokenizer_of_folder(str(tmp_path)).encode('Hello Cats')


def test_an_unknown_token_stands_for_what_has_none(tmp_path):
    own = tokenizers.Tokenizer(models.BPE({'H': 0, '<unk>': 1}, [], unk_token='<unk>'))
    own.save(str(tmp_path / 'tokenizer.json'))
    assert tokenizer_of_folder(str(tmp_path)).encode('Hi!') == [0, 1, 1]


def test_only_a_vocabulary_that_can_lose_a_character_is_watched():
    sentence_piece = {f'<0x{byte:02X}>': byte for byte in range(256)}
    all_bytes = tokenizers.Tokenizer(models.BPE(sentence_piece, [], byte_fallback=True))
    assert not can_lose(trained()) and not can_lose(all_bytes)
    characters = trained()
    characters.pre_tokenizer = pre_tokenizers.Metaspace()
    assert can_lose(characters)
    suffixed = trained()
    suffixed.model.end_of_word_suffix = '</w>'
    assert can_lose(suffixed)
    assert can_lose(of_few_tokens('bytes')[0]) and can_lose(of_few_tokens('some bytes')[0])


def test_a_gap_among_the_ids_hides_none_beyond_it(tmp_path):
    own = tokenizers.Tokenizer(models.WordLevel({'cat': 0, 'dog': 7}, unk_token='cat'))
    own.save(str(tmp_path / 'tokenizer.json'))
    tokenizer = tokenizer_of_folder(str(tmp_path))
    assert tokenizer.n_vocab == 8
    assert tokenizer.decode([7]) == 'dog'
    assert tokenizer.decode([3]) == '\ufffd'


def test_ids_beyond_the_tokenizer_decode_to_the_replacement_character():
    letters = Tokenizer('letters', 3, lambda text: [ord(c) - 97 for c in text],
                        lambda ids: ''.join(chr(97 + i) for i in ids))
    assert letters.decode([0, 7, 1, 2]) == 'a\ufffdbc'


# ---- which one a model gets ----

def test_a_tokenizer_with_more_ids_than_the_model_embeds_is_refused(tmp_path):
    trained().save(str(tmp_path / 'tokenizer.json'))
    size = trained().get_vocab_size()
    assert tokenizer_of_model(str(tmp_path), size).n_vocab == size
    with pytest.raises(ValueError, match=f'has ids up to {size - 1}, the model embeds {size - 1} of them'):
        tokenizer_of_model(str(tmp_path), size - 1)


def test_that_gpt2s_encoding_is_taken_is_said(gpt2, capsys):
    assert load_model(gpt2)[1].encode('cat') == [9246]
    told = f"note: no tokenizer beside '{gpt2}', GPT-2's own byte-pair encoding is taken"
    assert told in capsys.readouterr().err


def test_of_openais_names_it_is_not_said_but_of_a_folder_of_such_a_name(gpt2, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('gpt2', 'openai-community/gpt2-xl', 'distilgpt2'):
        assert tokenizer_of_model(name, GPT2_SIZE).name == 'gpt2'
    assert capsys.readouterr().err == ''
    os.makedirs('gpt2')
    tokenizer_of_model('gpt2', GPT2_SIZE)
    assert "no tokenizer beside 'gpt2'" in capsys.readouterr().err


@pytest.mark.parametrize('vocab_size', [2048, 50256, 65024, 128000])
def test_a_vocabulary_that_is_not_gpt2s_nor_padded_gets_no_tokens_of_gpt2(tmp_path, vocab_size):
    with pytest.raises(ValueError, match=f'a vocabulary of {vocab_size} and no tokenizer.json'):
        tokenizer_of_model(str(tmp_path), vocab_size)


def test_a_home_is_known_to_tokenizers_too(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    slow(tmp_path / 'm', trained())
    assert tokenizer_of_model('~/m', 300).encode(TEXT) == trained().encode(TEXT).ids


# ---- the name that memory files keep ----

def test_the_name_depends_on_the_vocabulary_alone(tmp_path):
    own = trained(['<s>'])
    own.save(str(tmp_path / 'tokenizer.json'))
    first = tokenizer_of_folder(str(tmp_path))
    own.enable_truncation(max_length=9)
    own.save(str(tmp_path / 'tokenizer.json'), pretty=False)
    again = tokenizer_of_folder(str(tmp_path))
    os.remove(tmp_path / 'tokenizer.json')
    assert first.name == again.name == tokenizer_of_folder(str(slow(tmp_path, own))).name
    own.add_tokens(['<b>'])
    own.save(str(tmp_path / 'tokenizer.json'))
    other = tokenizer_of_folder(str(tmp_path))
    assert other.name != first.name
    assert not other.answers_to(first.name)


def test_gpt2s_vocabulary_is_called_gpt2_whatever_file_it_comes_from(gpt2):
    import tiktoken
    encoding = tiktoken.get_encoding('gpt2')
    # GPT-2's way to write bytes as characters
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    letters = {b: chr(b) for b in printable} | {b: chr(256 + n) for n, b in enumerate(others)}
    vocabulary = {''.join(letters[b] for b in encoding.decode_single_token_bytes(i)): i
                  for i in range(50256)}
    assert name_of({**vocabulary, '<|endoftext|>': 50256}) == 'gpt2'
    assert name_of({**vocabulary, '<|end|>': 50256}) != 'gpt2'


def test_names_of_earlier_versions_are_still_known():
    tokenizer = tokenizer_of_folder(os.path.join(ROOT, 'assets', 'tinyworld'))
    import hashlib
    with open(os.path.join(ROOT, 'assets', 'tinyworld', 'tokenizer.json'), 'rb') as f:
        old = f'tokenizer.json {hashlib.sha256(f.read()).hexdigest()[:16]}'
    assert tokenizer.answers_to(old)
    assert tokenizer.answers_to(tokenizer.name)
    assert not tokenizer.answers_to('gpt2')


def test_a_memory_is_read_after_the_tokenizer_was_saved_again(tmp_path, folder):
    from load import load_memory
    from memory import PersistentMemory
    shutil.copytree(folder, tmp_path / 'm')
    model, tokenizer = load_model(str(tmp_path / 'm'))
    PersistentMemory.from_text(model, 'Dogs are bad.', tokenizer, (0,)).save(tmp_path / 'memory.safetensors')
    file = str(tmp_path / 'm' / 'tokenizer.json')
    tokenizers.Tokenizer.from_file(file).save(file, pretty=False)
    model, tokenizer = load_model(str(tmp_path / 'm'))
    assert len(load_memory(str(tmp_path / 'memory.safetensors'), '', model, tokenizer)) > 0
