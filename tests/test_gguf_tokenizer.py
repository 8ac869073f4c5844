"""Tokenizers in GGUF files: transformers' conversion of the same file is the oracle, on odd strings."""
import json
import os
import random

import numpy as np
import pytest
from test_gguf import SMOLLM2, needs_smollm2, refused, write
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from core.gguf_file import read_gguf
from core.gguf_tokenizer import merges_of, tokenizer_of_gguf
from core.tokenizers import own_tokenizer

PIECES = ['a', 'The', ' cat', ' don\'t', 'I\'LL', 'we\'ve', ' ', '  ', '   ', '\n', '\n\n', '\r\n', '\t',
          '\u00a0', '\u3000', '1', '23', ' 456',
          '7890', '3.14', '1,000', 'é', 'e\u0301', 'ß', 'Ω', 'жизнь',
          '日本語', 'العربية', 'हिन्दी', '한국어',
          '🙂', '👩‍👩‍👧', '🇨🇦', '½', 'Ⅳ', '²',
          '...', '!?', ' --', '$x^2$', '<b>', 'def f(x):\n    return x', 'x+=1;', '#', '_', '"', '\\n',
          '“', '—', '€', '\u200b', '\ufeff',
          'ſ', 'K', '<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|im_start|>user\n', '<tool>', '<s>',
          '</s>', '[INST]', '▁']
TEXTS = ["Cats don't like 1234567 dogs.\n\n  Indented, 3.14 times; won't we've I'll he'd",
         "日本語 и жизнь é ½ 🙂 naïve café",
         "def f(x):\n    return x + 1  # code\n\n\nfor i in range(10): print(i)\r\n",
         "A b c   d    e \t f THE THERE they're"] * 3


def odd_strings(n=1000):
    draw = random.Random(0)
    return [''.join(draw.choices(PIECES, k=draw.randint(1, 8))) for _ in range(n)]


def of_transformers(path):
    return AutoTokenizer.from_pretrained(os.path.dirname(path),
                                         gguf_file=os.path.basename(path)).backend_tokenizer


def check_same(own, other, strings):
    for string in strings:
        ids = own.encode(string, add_special_tokens=False).ids
        assert ids == other.encode(string, add_special_tokens=False).ids, repr(string)
        text = own.decode(ids, skip_special_tokens=False)
        assert text == other.decode(ids, skip_special_tokens=False), repr(string)


# ---- tiny vocabularies, written as a converter does ----

def byte_level_vocabulary():
    """-> tokens, merges, types: all bytes, a few hundred merges, and tokens that stand for themselves."""
    own = Tokenizer(models.BPE())
    # merges across all borders of words
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    own.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet,
                                                       show_progress=False))
    file = Tokenizer.from_str(own.to_str())
    tokens = [token for token, _ in sorted(file.get_vocab().items(), key=lambda item: item[1])]
    merges = [' '.join(merge) for merge in json.loads(file.to_str())['model']['merges']]
    whole = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<tool>']
    return tokens + whole, merges, [1] * len(tokens) + [3, 3, 3, 4]


def byte_level_file(path, pre='gpt-2', kind='llama', **more):
    tokens, merges, types = byte_level_vocabulary()
    keys = {'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': pre, 'tokenizer.ggml.tokens': tokens,
            'tokenizer.ggml.merges': merges, 'tokenizer.ggml.token_type': types,
            'tokenizer.ggml.bos_token_id': len(tokens) - 4, 'tokenizer.ggml.eos_token_id': len(tokens) - 2,
            **{f'tokenizer.{name}': value for name, value in more.items()}}
    return write(path, kind, keys, {'w': np.ones((1, 1), np.float32)})


def sentence_piece_file(path, prefix=True, more=None):
    pieces = ['▁', 't', 'h', 'e', 'c', 'a', 's', 'o', 'n', '▁t', 'he', '▁the', '▁c', 'at', '▁cat',
              'cats', '▁cats', '▁▁', 'on', '.', 'the', 'hen', 'en']
    tokens = ['<unk>', '<s>', '</s>', *(f'<0x{byte:02X}>' for byte in range(256)), *pieces]
    types = [2, 3, 3, *[6] * 256, *[1] * len(pieces)]
    scores = [0.0] * 259 + [-float(i) for i in range(len(pieces))]
    keys = {'tokenizer.ggml.model': 'llama', 'tokenizer.ggml.tokens': tokens,
            'tokenizer.ggml.scores': scores,
            'tokenizer.ggml.token_type': types, 'tokenizer.ggml.bos_token_id': 1,
            'tokenizer.ggml.eos_token_id': 2,
            'tokenizer.ggml.unknown_token_id': 0, 'tokenizer.ggml.add_space_prefix': prefix,
            **{f'tokenizer.{name}': value for name, value in (more or {}).items()}}
    return write(path, 'llama', keys, {'w': np.ones((1, 1), np.float32)})


@pytest.mark.parametrize('pre, kind', [('gpt-2', 'gpt2'), ('gpt2', 'gpt2'), ('llama-bpe', 'llama'),
                                       ('llama3', 'llama'),
                                       ('qwen2', 'qwen2')])
def test_a_thousand_odd_strings_are_cut_as_by_transformers(pre, kind, tmp_path):
    path = byte_level_file(tmp_path / 'tiny.gguf', pre, kind)
    own, other = tokenizer_of_gguf(read_gguf(path)).own, of_transformers(path)
    if pre in ('llama-bpe', 'llama3'):
        other.model.ignore_merges = True  # as Llama 3's own file has it
    other.normalizer = own.normalizer if pre == 'qwen2' else None
    check_same(own, other, odd_strings())


def test_digits_of_smollm_are_cut_one_by_one_before_all_else(tmp_path):
    path = byte_level_file(tmp_path / 'tiny.gguf', 'smollm')
    other = of_transformers(path)  # which cuts as GPT-2
    other.pre_tokenizer = as_smollm()
    check_same(tokenizer_of_gguf(read_gguf(path)).own, other, odd_strings())


def as_smollm():
    """As SmolLM2's own tokenizer.json has it."""
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])


def test_the_default_cuts_punctuation_and_digits_by_three(tmp_path):
    own = tokenizer_of_gguf(read_gguf(byte_level_file(tmp_path / 'tiny.gguf', 'default'))).own
    words = [word for word, _ in own.pre_tokenizer.pre_tokenize_str("Cats, don't eat 12345 $x!?")]
    assert words == ['Cats', ',', 'Ġdon', "'", 't', 'Ġeat', 'Ġ', '123', '45', 'Ġ', '$', 'x', '!?']


@pytest.mark.parametrize('prefix', [True, False])
def test_a_sentence_piece_vocabulary_is_cut_as_by_transformers(prefix, tmp_path):
    path = sentence_piece_file(tmp_path / 'tiny.gguf', prefix)
    found, other = tokenizer_of_gguf(read_gguf(path)), of_transformers(path)
    if not prefix:
        other.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='never', split=False)
    strings = [*odd_strings(), 'the cats', ' the  cat on a hen.', 'then\nthe cat</s>', 'the', 'hen']
    for string in strings:
        ids = other.encode(string, add_special_tokens=False).ids
        assert found.own.encode(string).ids == ids, repr(string)
    assert found.own.decode(found.own.encode('the cats on é 🙂').ids) == 'the cats on é 🙂'
    assert found.add_bos and found.bos_id == 1 and found.end_ids == (2,)


def test_a_character_without_a_token_is_refused_by_name(tmp_path):
    keys = {'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': 'gpt-2',
            'tokenizer.ggml.tokens': ['H', 'C', 'HC'], 'tokenizer.ggml.merges': ['H C']}
    path = write(tmp_path / 'tiny.gguf', 'llama', keys, {'w': np.ones((1, 1), np.float32)})
    tokenizer = own_tokenizer(str(path))
    assert tokenizer.encode('HCC') == [2, 1]
    with pytest.raises(ValueError, match="the character 'e' is not in the vocabulary of the tokenizer"):
        tokenizer.encode('Hello Cats')


def test_merges_follow_scores_and_a_longer_left_part_goes_first():
    vocabulary = {token: i for i, token in enumerate(['a', 'b', 'ab', 'ba', 'aba'])}
    assert merges_of(vocabulary, [0, 0, -2, -1, -3]) == [('b', 'a'), ('a', 'b'), ('ab', 'a'), ('a', 'ba')]


def test_special_tokens_are_whole_and_users_tokens_are_plain_text(tmp_path):
    own = tokenizer_of_gguf(read_gguf(byte_level_file(tmp_path / 'tiny.gguf'))).own
    ids = own.encode('a<|im_start|>b<tool>').ids
    assert own.token_to_id('<|im_start|>') in ids and own.token_to_id('<tool>') in ids
    assert own.decode(ids, skip_special_tokens=True) == 'ab<tool>'
    assert own.decode(ids, skip_special_tokens=False) == 'a<|im_start|>b<tool>'


def test_what_begins_and_ends_a_text_and_the_template_are_told(tmp_path):
    n = len(byte_level_vocabulary()[0])
    more = {'ggml.eot_token_id': n - 4, 'chat_template': '{{ messages }}'}
    found = tokenizer_of_gguf(read_gguf(byte_level_file(tmp_path / 'a.gguf', **more)))
    assert (found.bos_id, found.eos_id, found.eot_id, found.add_bos) == (n - 4, n - 2, n - 4, False)
    assert found.end_ids == (n - 4, n - 2) and found.chat_template == '{{ messages }}'
    assert tokenizer_of_gguf(read_gguf(byte_level_file(tmp_path / 'b.gguf', 'llama-bpe'))).add_bos
    more = {'ggml.add_bos_token': False}
    path = byte_level_file(tmp_path / 'c.gguf', 'llama-bpe', **more)
    assert not tokenizer_of_gguf(read_gguf(path)).add_bos


def test_a_file_that_does_not_say_how_to_cut_is_taken_with_a_note(tmp_path, capsys):
    path = byte_level_file(tmp_path / 'tiny.gguf', None, 'gpt2')
    check_same(tokenizer_of_gguf(read_gguf(path)).own, of_transformers(path), odd_strings(100))
    note = capsys.readouterr().err
    assert "'gpt-2' is taken" in note and note.count('\n') == 1


@pytest.mark.parametrize('more, named', [
    ({'ggml.model': None}, 'no tokenizer.ggml.model'),
    ({'ggml.model': 'bert'}, "'bert'"),
    ({'ggml.pre': 'tekken'}, "'tekken'"),
    ({'ggml.tokens': None}, 'no tokenizer.ggml.tokens'),
    ({'ggml.tokens': [1, 2]}, 'tokenizer.ggml.tokens'),
    ({'ggml.tokens': ['a', 'a']}, 'one twice'),
    ({'ggml.tokens': ['a', 'b' * 5000]}, '5000 characters'),
    ({'ggml.merges': None}, 'no tokenizer.ggml.merges'),
    ({'ggml.merges': ['a']}, 'not of two tokens'),
    ({'ggml.merges': ['a qqqq']}, 'is none'),
    ({'ggml.token_type': [1, 1]}, 'token_type'),
    ({'ggml.token_type': 'words'}, 'token_type'),
    ({'ggml.eos_token_id': 10**6}, '1000000'),
    ({'chat_template': 3}, 'chat_template')], ids=str)
def test_a_tokenizer_that_is_missing_or_damaged_is_refused_in_one_line(more, named, tmp_path):
    path = byte_level_file(tmp_path / 'tiny.gguf', **{'pre': 'gpt-2', **more})
    refused(lambda: tokenizer_of_gguf(read_gguf(path)), named, 'tiny.gguf')


# ---- SmolLM2 ----

@needs_smollm2
def test_a_thousand_odd_strings_are_cut_as_by_smollm2():
    found, other = tokenizer_of_gguf(read_gguf(SMOLLM2)), of_transformers(SMOLLM2)
    check_same(found.own, other,
               [string for string in odd_strings() if not any(c.isnumeric() for c in string)])
    other.pre_tokenizer = as_smollm()  # transformers cuts this file's numbers as GPT-2 does
    check_same(found.own, other, odd_strings())
    assert found.end_ids == (2,) and not found.add_bos and '<|im_start|>' in found.chat_template
