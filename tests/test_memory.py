"""
PersistentMemory: what is kept of a text, and of how many; old folders.

$ python -m pytest tests/test_memory.py
"""
import os

import numpy as np
import pytest
import torch
from conftest import REMEMBERED, ROOT, old_folder, tiny_model

from core.rows import run_together
from memory import PersistentMemory


@pytest.mark.parametrize('metric', ['l2', 'product'])
@pytest.mark.parametrize('k', [1, 3, 13])
def test_search_equals_brute_force(memory, metric, k):
    torch.manual_seed(0)
    heads, queries = torch.tensor([0, 1, 1, 0, 1]), torch.randn(5, 8)
    distances, ids = memory.search(1, heads, queries, k, metric)
    for h, q, d, i in zip(heads, queries, distances, ids, strict=True):
        keys = memory.keys[1][h]
        all_d = ((keys - q) ** 2).sum(-1) if metric == 'l2' else keys @ q
        expected = all_d.sort(descending=metric == 'product')
        assert i.tolist() == expected.indices[:k].tolist()
        torch.testing.assert_close(d, expected.values[:k], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(('metric', 'worst'), [('l2', np.inf), ('product', -np.inf)])
def test_missing_neighbours_are_minus_one_and_the_stored_ones_all_come(memory, metric, worst):
    distances, ids = memory.search(0, torch.tensor([1]), torch.zeros(1, 8), k=20, metric=metric)
    assert sorted(ids[0, :13].tolist()) == list(range(13))
    assert ids[0, 13:].tolist() == [-1] * 7
    empty = PersistentMemory(memory.origin, (0,))
    distances, ids = empty.search(0, torch.tensor([1]), torch.zeros(1, 8), k=2, metric=metric)
    assert ids.tolist() == [[-1, -1]]
    assert distances.tolist() == [[worst, worst]]


def test_the_rows_are_the_plain_models_keys_and_values_without_the_bookkeeping_ones(model):
    memory = PersistentMemory.from_tokens(model, REMEMBERED, layers=(2, 0), bookkeeping_tokens=3)
    assert memory.layers == (0, 2)
    assert memory.tokens.tolist() == REMEMBERED[3:]
    assert len(memory) == len(REMEMBERED) - 3
    kept = model.heads_of(torch.tensor([REMEMBERED]), (0, 2))
    for layer in (0, 2):
        assert torch.equal(memory.keys[layer], kept[layer][1][0, :, 3:])
        assert torch.equal(memory.values[layer], kept[layer][2][0, :, 3:])


def test_texts_added_one_by_one_equal_a_file_built_in_one_go_and_each_row_knows_its_text(model):
    texts = [REMEMBERED, REMEMBERED[::-1], REMEMBERED[:4]]
    memory = PersistentMemory.from_tokens(model, texts[0], layers=(0, 2), source='first')
    # an index made now must not outlive what is added
    memory.search(0, torch.tensor([0]), torch.zeros(1, 8), 1)
    for i, ids in enumerate(texts[1:]):
        memory.add(model, ids, source=f'other {i}')
    alone = [PersistentMemory.from_tokens(model, ids, layers=(0, 2)) for ids in texts]
    for layer in (0, 2):
        assert torch.equal(memory.keys[layer], torch.cat([one.keys[layer] for one in alone], dim=1))
        assert torch.equal(memory.values[layer], torch.cat([one.values[layer] for one in alone], dim=1))
    assert [memory.text_of(row)['source'] for row in (0, 12, 13, 25, 26, 28)] == [
        'first', 'first', 'other 0', 'other 0', 'other 1', 'other 1']
    query = memory.keys[0][:1, 20]
    assert memory.search(0, torch.tensor([0]), query, 1)[1].item() == 20


def test_from_text_puts_the_prefix_in_front_and_keeps_the_text(model):
    class Tokenizer:
        name = 'letters'

        def encode(self, text):
            return [ord(c) % 48 for c in text]

    memory = PersistentMemory.from_text(model, '  some words\n', Tokenizer(), layers=(1,), source='FILE:x')
    assert memory.tokens.tolist() == Tokenizer().encode('some words')
    same = PersistentMemory.from_tokens(model, Tokenizer().encode('\nsome words'), layers=(1,))
    assert torch.equal(memory.keys[1], same.keys[1])
    assert memory.texts == [{'source': 'FILE:x', 'text': 'some words', 'rows': 10}]
    without = PersistentMemory.from_text(model, 'some words', Tokenizer(), layers=(1,), bookkeeping_tokens=0)
    assert without.tokens.tolist() == Tokenizer().encode('some words')
    with pytest.raises(ValueError, match='the text to remember is empty'):
        PersistentMemory.from_text(model, ' \n', Tokenizer(), layers=(1,))


@pytest.mark.parametrize(('ids', 'layers', 'message'), [
    ([], (0,), 'no tokens'),
    ([1] * 33, (0,), 'the text has 33 tokens, the model\'s context is 32'),
    ([1, 48], (0,), 'token id 48 is outside the vocabulary of 48'),
    ([1, 2], (3,), 'layer 3 does not exist'),
    ([1, 2], (), 'name at least one layer'),
    ([1, 2], (0, 0), 'each once'),
])
def test_what_cannot_be_remembered_is_refused(model, ids, layers, message):
    with pytest.raises(ValueError, match='.*') as error:
        PersistentMemory.from_tokens(model, ids, layers)
    assert message in str(error.value)


def test_a_layer_that_cannot_be_kept_leaves_all_layers_as_they_were(model, memory, monkeypatch):
    kept = model.heads_of(torch.tensor([REMEMBERED]), (0, 1, 2))
    kept[2][2][0, 0, 5, 3] = float('nan')
    monkeypatch.setattr(model, 'heads_of', lambda idx, layers, cache: kept)
    with pytest.raises(ValueError, match="the model's keys or values of the text 'notes' are not finite"):
        memory.add(model, REMEMBERED, source='notes')
    assert {memory.keys[layer].size(1) for layer in memory.layers} == {13}
    assert {memory.values[layer].size(1) for layer in memory.layers} == {13}
    assert len(memory) == 13


def test_numbers_may_be_of_numpy_and_ids_a_row_of_a_tensor(model):
    expected = PersistentMemory.from_tokens(model, REMEMBERED, (0, 1))
    as_tensor = torch.tensor(REMEMBERED)
    for ids in (np.array(REMEMBERED), as_tensor, as_tensor[None], [np.int64(i) for i in REMEMBERED]):
        memory = PersistentMemory.from_tokens(model, ids, np.arange(2))
        assert memory.layers == (0, 1)
        assert torch.equal(memory.keys[1], expected.keys[1])
    assert PersistentMemory.from_tokens(model, REMEMBERED, np.int64(1)).layers == (1,)
    for ids in (torch.tensor([REMEMBERED] * 2), [0.5, 1.5], torch.tensor([True, False])):
        with pytest.raises(ValueError, match='expected a list of whole numbers'):
            PersistentMemory.from_tokens(model, ids, (0,))
    with pytest.raises(ValueError, match='layer is 1.5, expected a whole number'):
        PersistentMemory.from_tokens(model, REMEMBERED, (1.5,))


def test_a_bookkeeping_prefix_of_two_tokens_is_left_out_whole(model):
    class Pairs:
        name = 'pairs'

        def encode(self, text):
            return [i for c in text for i in ((7, 8) if c == '\n' else (ord(c) % 48,))]

    memory = PersistentMemory.from_text(model, 'some words', Pairs(), layers=(1,))
    assert memory.tokens.tolist() == Pairs().encode('some words')
    kept = model.heads_of(torch.tensor([Pairs().encode('\nsome words')]), (1,))[1]
    assert torch.equal(memory.keys[1], kept[1][0, :, 2:])
    fewer = PersistentMemory.from_text(model, 'some words', Pairs(), (1,), 4)
    assert fewer.tokens.tolist() == Pairs().encode('me words')


def test_a_refused_text_leaves_the_memory_as_it_was(model, memory):
    before = memory.keys[0].clone()
    with pytest.raises(ValueError, match='token id'):
        memory.add(model, [3, 99])
    assert len(memory) == 13
    assert len(memory.texts) == 1
    assert torch.equal(memory.keys[0], before)


class Letters:
    name = 'letters'

    def encode(self, text):
        return [ord(c) % 48 for c in text]


def test_an_old_folder_is_imported_without_its_first_row(model, memory, tmp_path):
    old_folder(memory, tmp_path)
    imported = PersistentMemory.from_folder(str(tmp_path), model)
    assert imported.layers == (0, 1, 2)
    assert len(imported) == 13
    assert imported.tokens.tolist() == [-1] * 13  # the text's twelve letters are not the thirteen rows
    for layer in range(3):
        assert torch.equal(imported.keys[layer], memory.keys[layer])
        assert torch.equal(imported.values[layer], memory.values[layer])
    (tmp_path / 'text.txt').write_text('letters here!')
    imported = PersistentMemory.from_folder(str(tmp_path), model, Letters())
    assert imported.tokens.tolist() == Letters().encode('letters here!')


def test_damaged_old_folders_are_refused(model, memory, tmp_path):
    old_folder(memory, tmp_path)
    with pytest.raises(ValueError, match=r'holds the heads \[0, 1\], the model has 0 to 3'):
        PersistentMemory.from_folder(str(tmp_path), tiny_model(n_head=4))
    torch.save(torch.full((14, 8), torch.inf), tmp_path / 'keyStore' / '1' / '0.pt')
    with pytest.raises(ValueError, match='not finite'):
        PersistentMemory.from_folder(str(tmp_path), model)
    (tmp_path / 'keyStore' / '1' / '0.pt').write_bytes(b'junk')
    with pytest.raises(ValueError, match='damaged or no tensor'):
        PersistentMemory.from_folder(str(tmp_path), model)
    (tmp_path / 'keyStore' / '1' / '0.pt').unlink()
    with pytest.raises(ValueError, match='files are missing'):
        PersistentMemory.from_folder(str(tmp_path), model)
    with pytest.raises(FileNotFoundError, match='without keyStore'):
        PersistentMemory.from_folder(str(tmp_path / 'valueStore'), model)


def test_a_head_that_may_not_be_read_is_not_called_damaged(model, memory, tmp_path, monkeypatch):
    old_folder(memory, tmp_path)
    path = tmp_path / 'keyStore' / '1' / '0.pt'
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=r'0.pt cannot be read \(Is a directory\)'):
        PersistentMemory.from_folder(str(tmp_path), model)

    def refuse(*_, **__):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('builtins.open', refuse)  # as the system does; root may read everything
    with pytest.raises(PermissionError, match=r'0.pt cannot be read \(Permission denied\): change its'):
        PersistentMemory.from_folder(str(tmp_path), model)


def test_a_disk_that_fails_under_a_head_is_not_called_its_damage(model, memory, tmp_path, monkeypatch):
    old_folder(memory, tmp_path)

    def fail(*_, **__):
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr('torch.load', fail)
    with pytest.raises(OSError, match='Input/output error'):
        PersistentMemory.from_folder(str(tmp_path), model)


def test_the_text_of_an_old_folder_that_is_not_utf8_is_named_with_its_cure(model, memory, tmp_path):
    old_folder(memory, tmp_path)
    (tmp_path / 'text.txt').write_bytes('les élèves'.encode('latin-1'))
    with pytest.raises(ValueError, match=r'text.txt is not text in UTF-8 .*: save it as UTF-8'):
        PersistentMemory.from_folder(str(tmp_path), model)
    (tmp_path / 'text.txt').write_bytes(b'\xef\xbb\xbfletters\r\nhere')
    assert PersistentMemory.from_folder(str(tmp_path), model).texts[0]['text'] == 'letters\nhere'


def test_a_pickle_that_would_run_code_is_never_run(model, memory, tmp_path):
    old_folder(memory, tmp_path)

    class Run:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path}/ran',)

    torch.save(Run(), tmp_path / 'keyStore' / '1' / '0.pt')
    with pytest.raises(ValueError, match='damaged or no tensor'):
        PersistentMemory.from_folder(str(tmp_path), model)
    assert not (tmp_path / 'ran').exists()


def test_the_published_memory_of_gpt2_reads_as_it_was_stored():
    """A real GPT-2 memory, where it lies beside the project: 90 tokens, 12 layers of 12 heads."""
    folder = os.path.join(os.path.dirname(ROOT), 'shared', 'gpt2_cat_memstore')
    if not os.path.isdir(folder):
        pytest.skip('the published memory is not beside this repository, it is no part of it')
    gpt2 = tiny_model(n_layer=12, n_head=12, n_embd=768, sharp=1.0)
    memory = PersistentMemory.from_folder(folder, gpt2)
    assert len(memory) == 90
    assert memory.layers == tuple(range(12))
    stored = torch.load(os.path.join(folder, 'valueStore', '7', '3.pt'), weights_only=True)
    assert torch.equal(memory.values[7][3], stored[1:])
    query = memory.keys[7][3, 17:18]
    assert memory.search(7, torch.tensor([3]), query, 1)[1].item() == 17


def test_a_long_header_runs_once_for_all_texts_and_changes_no_row(model, monkeypatch):
    header, texts = list(range(9)), ([11, 12, 13], [14, 15], [16, 17, 18])
    ran, hidden = [], model.hidden
    monkeypatch.setattr(model, 'hidden', lambda idx, *rest, **more: ran.append(idx.numel())
                        or hidden(idx, *rest, **more))
    rows = [torch.tensor(header + text) for text in texts]
    found = dict(run_together(model, rows, [9] * 3, (0, 2)))
    assert sum(ran) == 9 + 3 * 3  # padding included
    for n, row in enumerate(rows):
        kept = model.heads_of(row[None], (0, 2))
        for layer, parts in found[n].items():
            for part, expected in zip(parts, kept[layer][1:]):
                assert torch.allclose(part, expected[0, :, 9:], atol=1e-6)
    rows[1][4] = 40  # headers that differ are no header
    (_, kept), = [one for one in run_together(model, rows, [9] * 3, (2,)) if one[0] == 1]
    assert torch.allclose(kept[2][1], model.heads_of(rows[1][None], (2,))[2][2][0, :, 9:], atol=1e-6)
