"""
A window of a longer text that is read with the windows around it: one text, as if it stood in the prompt.

$ python -m pytest tests/test_neighbours.py
"""
import pytest
import torch
from conftest import ROOT
from test_recall import HEADS, QUESTION, attach
from test_rotary import FAMILIES, tiny_family

from core.windows import around, joined
from load import tokenizer_of_folder
from memory import PersistentMemory

LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ .\n'


class Letters:
    """A token a letter."""
    name = 'letters'

    @staticmethod
    def encode(text):
        return [LETTERS.index(letter) for letter in text]


TEXT = 'AB CDE. FGHI JK. LM NOPQ. RSTU VW. XY ZABC. DEFG HI.'
PREFIX = '\nAB '


def library(model, keep='values', texts=(TEXT,), sources=('one',), ending=''):
    layers = (0, 1, 2) if keep == 'values' else ()
    return PersistentMemory.from_texts(model, list(texts), Letters, layers, HEADS, keep, len(PREFIX), PREFIX,
                                       list(sources), window_tokens=20, window_overlap=8, ending=ending)


def passage(memory, first, last):
    return TEXT[memory.texts[first]['start']:memory.texts[last]['end']]


@pytest.fixture
def llama():
    return tiny_family('llama', block_size=96)


@pytest.mark.parametrize(('keep', 'ending'), [('values', ''), ('tokens', ''), ('values', '\n'),
                                             ('tokens', ' Z')])
@pytest.mark.parametrize('neighbours', (0, 1, 9))
@pytest.mark.parametrize('family', FAMILIES)
def test_a_window_and_its_neighbours_are_the_joined_passage_in_the_prompt(family, neighbours, keep, ending):
    model = tiny_family(family, block_size=96)
    memory, prompt = library(model, keep, ending=ending), Letters.encode(PREFIX) + QUESTION
    assert len(memory.texts) == 5
    attach(model, memory, recall_neighbours=neighbours)
    y = model.generate(torch.tensor([prompt]), 6, top_k=1)
    logits = model(torch.tensor([prompt]))[0]
    [[(_, (number,), _)]] = model.recalled
    first, last = max(0, number - neighbours), min(4, number + neighbours)
    model.detach_memory()
    whole = torch.tensor([Letters.encode(PREFIX + passage(memory, first, last) + ending) + QUESTION])
    assert torch.allclose(model(whole)[0], logits, atol=1e-4)
    assert model.generate(whole, 6, top_k=1)[0, -6:].tolist() == y[0, -6:].tolist()


class Joining(Letters):
    """One that has a full stop and a line feed behind it as one token."""

    @staticmethod
    def encode(text):
        pieces = text.replace('.\n', '|')
        return [len(LETTERS) if letter == '|' else LETTERS.index(letter) for letter in pieces]


def test_an_ending_is_the_tokens_that_the_tokenizer_has_for_it_behind_this_text(llama):
    memory = PersistentMemory.from_texts(llama, ['AB.', 'AB'], Joining, (), HEADS, 'tokens', len(PREFIX),
                                         PREFIX, ending='\n')
    assert [memory.held.tokens_of([n]).tolist() for n in (0, 1)] == [Joining.encode('AB.\n'),
                                                                    Letters.encode('AB\n')]
    assert [entry['ending'] for entry in memory.texts] == [0, 1]


def test_no_more_is_read_than_fits_beside_the_prompt_and_what_is_to_be_written(llama):
    memory, prompt = library(llama), Letters.encode(PREFIX) + QUESTION
    attach(llama, memory, recall_neighbours=9)
    read, rows_of = [], memory.rows_of
    memory.rows_of = lambda model, held, runs, layers: (read.extend(runs)
                                                        or rows_of(model, held, runs, layers))
    lengths = []
    for new_tokens in range(1, 99, 4):
        llama.generate(torch.tensor([prompt]), new_tokens, top_k=1, end_ids=range(48))  # ends with its first
        lengths.append(len(joined(memory.held, read[-1])))
        assert len(read[-1]) == 1 or lengths[-1] + len(prompt) + new_tokens <= 96
    assert lengths == sorted(lengths, reverse=True) and len(set(lengths)) >= 5


def test_neighbours_are_those_of_the_source_that_stand_beside_the_window(llama):
    memory = library(llama, texts=(TEXT, 'AB.', TEXT, TEXT), sources=('one', 'two', 'one', ''))
    texts = memory.texts  # 0 to 4, one alone, 6 to 10, 11 to 15
    assert around(texts, 2, 1, 99, ()) == (1, 2, 3)
    assert around(texts, 2, 0, 99, ()) == (2,)
    assert around(texts, 4, 9, 99, ()) == around(texts, 0, 9, 99, ()) == (0, 1, 2, 3, 4)
    assert around(texts, 5, 9, 99, ()) == (5,)
    assert around(texts, 10, 9, 99, ()) == (6, 7, 8, 9, 10)
    assert around(texts, 11, 1, 99, ()) == (11, 12)
    assert around(texts, 2, 9, 99, {1}) == (2, 3, 4)  # none is read behind one that is not
    for others in (texts[13:], texts[9:11]):  # another source's next window; not the next one
        assert around([*texts[:2], *others], 1, 9, 99, ()) == (0, 1)


def test_two_recalled_windows_of_one_passage_are_read_once(llama):
    memory, idx = library(llama), torch.tensor([Letters.encode(PREFIX) + QUESTION])
    attach(llama, memory, recall_neighbours=9)
    one = llama(idx)[0]
    attach(llama, memory, recall_neighbours=9, recall_texts=3)
    assert torch.equal(llama(idx)[0], one)
    assert len(llama.recalled[0][0][1]) == 3


def test_windows_that_do_not_say_how_far_they_overlap_are_refused_as_neighbours_alone(llama):
    memory, idx = library(llama), torch.tensor([Letters.encode(PREFIX) + QUESTION])
    for text in memory.texts:
        del text['overlap']
    attach(llama, memory)
    llama(idx)
    attach(llama, memory, recall_neighbours=1)
    with pytest.raises(ValueError, match='does not say how far its windows overlap: build it again'):
        llama(idx)


def test_joined_windows_have_the_tokens_of_the_passage():
    tinyworld = tokenizer_of_folder(f'{ROOT}/assets/tinyworld')
    model = tiny_family('llama', vocab_size=tinyworld.n_vocab, block_size=64)
    text = ' '.join(f'The mayor of town {n} is old. He has {n} cats.' for n in range(20))
    memory = PersistentMemory.from_texts(model, [text], tinyworld, index_heads=HEADS, keep='tokens',
                                         window_tokens=30, window_overlap=12)
    assert len(memory.texts) > 5 and all(one['overlap'] > 9 for one in memory.texts[1:])
    header = len(tinyworld.encode('\n'))
    for first in range(3):
        part = text[memory.texts[first]['start']:memory.texts[first + 2]['end']]
        found = joined(memory.held, range(first, first + 3)).tolist()
        assert found == list(tinyworld.encode('\n' + part))[header:]
