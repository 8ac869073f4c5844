"""
PersistentMemory: exact search, files that survive a new process and refuse damage, old folders.

$ python -m pytest tests/test_memory.py
"""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import REMEMBERED, ROOT, tiny_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

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


@pytest.mark.parametrize('metric', ['l2', 'product'])
@pytest.mark.parametrize('k', [1, 3, 20])
@pytest.mark.parametrize('heads', [[0, 1], [0, 1, 1, 1, 1], [1, 1]])
def test_both_ways_to_search_find_the_same(memory, metric, k, heads, monkeypatch):
    counts, queries = torch.tensor(heads).bincount(minlength=2), torch.randn(len(heads), 8, generator=torch.Generator().manual_seed(0))
    expected = memory._search_faiss(1, counts, queries, k, metric)
    for piece in (2**20, 40):  # all at once, and in pieces of 5 to 20 of the 13 rows
        monkeypatch.setattr('memory.PIECE', {'cpu': piece})
        distances, ids = memory._search_stacked(1, counts, queries, k, metric)
        torch.testing.assert_close(distances, expected[0], atol=1e-4, rtol=1e-4)
        assert torch.equal(ids, expected[1])


def test_a_search_leaves_torch_its_threads(memory):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    memory.search(0, torch.tensor([0]), torch.zeros(1, 8), k=1)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.parametrize(('metric', 'worst'), [('l2', np.inf), ('product', -np.inf)])
def test_missing_neighbours_are_minus_one_and_the_stored_ones_all_come(memory, metric, worst):
    distances, ids = memory.search(0, torch.tensor([1]), torch.zeros(1, 8), k=20, metric=metric)
    assert sorted(ids[0, :13].tolist()) == list(range(13))
    assert ids[0, 13:].tolist() == [-1] * 7
    empty = PersistentMemory(memory.origin, (0,))
    distances, ids = empty.search(0, torch.tensor([1]), torch.zeros(1, 8), k=2, metric=metric)
    assert ids.tolist() == [[-1, -1]]
    assert distances.tolist() == [[worst, worst]]


def test_a_file_gives_the_layers_that_are_asked_for(model, memory, tmp_path):
    path = str(tmp_path / 'memory.safetensors')
    memory.save(path)
    some = PersistentMemory.load(path, model, (2, 0))
    assert some.layers == (0, 2)
    assert all(torch.equal(some.keys[layer], memory.keys[layer]) and torch.equal(some.values[layer], memory.values[layer])
               for layer in some.layers)
    with pytest.raises(ValueError, match=r'layers \(4,\) cannot read: the memory holds layers \(0, 1, 2\)'):
        PersistentMemory.load(path, model, (4,))


def test_the_rows_are_the_plain_models_keys_and_values_without_the_bookkeeping_ones(model):
    memory = PersistentMemory.from_tokens(model, REMEMBERED, layers=(2, 0), bookkeeping_tokens=3)
    assert memory.layers == (0, 2)
    assert memory.tokens.tolist() == REMEMBERED[3:]
    assert len(memory) == len(REMEMBERED) - 3
    kept = model.keys_values(torch.tensor([REMEMBERED]), (0, 2))
    for layer in (0, 2):
        assert torch.equal(memory.keys[layer], kept[layer][0][0, :, 3:])
        assert torch.equal(memory.values[layer], kept[layer][1][0, :, 3:])


def test_texts_added_one_by_one_equal_a_file_built_in_one_go_and_each_row_knows_its_text(model):
    texts = [REMEMBERED, REMEMBERED[::-1], REMEMBERED[:4]]
    memory = PersistentMemory.from_tokens(model, texts[0], layers=(0, 2), source='first')
    memory.search(0, torch.tensor([0]), torch.zeros(1, 8), 1)  # an index made now must not outlive what is added
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


def test_a_refused_text_leaves_the_memory_as_it_was(model, memory):
    before = memory.keys[0].clone()
    with pytest.raises(ValueError, match='token id'):
        memory.add(model, [3, 99])
    assert len(memory) == 13
    assert len(memory.texts) == 1
    assert torch.equal(memory.keys[0], before)


READ_ELSEWHERE = """
import sys, torch
sys.path[:0] = [{root!r}, {root!r} + '/tests']
from conftest import tiny_model, PROMPT
from memory import PersistentMemory
model = tiny_model()
model.attach_memory(PersistentMemory.load({path!r}, model), layers=(0, 2), method=3, memory_fraction=5.0)
torch.save(model(torch.tensor([PROMPT]))[0], {out!r})
"""


def test_a_memory_saved_here_reads_the_same_in_a_new_process(model, memory, tmp_path):
    path, out = str(tmp_path / 'm.safetensors'), str(tmp_path / 'logits.pt')
    memory.save(path)
    subprocess.run([sys.executable, '-c', READ_ELSEWHERE.format(root=ROOT, path=path, out=out)], check=True)
    model.attach_memory(memory, layers=(0, 2), method=3, memory_fraction=5.0)
    from conftest import PROMPT
    torch.testing.assert_close(torch.load(out), model(torch.tensor([PROMPT]))[0], atol=1e-5, rtol=1e-5)


def test_the_file_holds_what_the_format_says(memory, tmp_path):
    memory.save(tmp_path / 'm.safetensors')
    tensors = load_file(tmp_path / 'm.safetensors')
    assert sorted(tensors) == sorted([f'layers.{i}.{kind}' for i in range(3) for kind in ('keys', 'values')] + ['tokens'])
    assert tensors['layers.0.keys'].shape == (2, 13, 8)
    assert tensors['tokens'].tolist() == REMEMBERED[1:]
    with safe_open(tmp_path / 'm.safetensors', 'pt') as f:
        metadata = json.loads(f.metadata()['memory'])
    assert {'format_version', 'origin', 'tokenizer', 'bookkeeping_tokens', 'texts', 'dtype'} <= metadata.keys()
    assert {'name', 'n_layer', 'n_head', 'head_size', 'fingerprint'} <= metadata['origin'].keys()


def changed(change):
    """A file's metadata and tensors, both changed by `change`."""
    def damage(path):
        with safe_open(path, 'pt') as f:
            metadata = json.loads(f.metadata()['memory'])
        tensors = load_file(path)
        change(metadata, tensors)
        save_file(tensors, path, {'memory': json.dumps(metadata)})
    return damage


def write_metadata(path, metadata):
    save_file(load_file(path), path, {'memory': json.dumps(metadata)})


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path):
    save_file({'weight': torch.zeros(3)}, path)


DAMAGE = {
    'empty': (lambda path: path.write_bytes(b''), 'damaged or no memory file'),
    'cut short': (cut, 'damaged or no memory file'),
    'text': (lambda path: path.write_text('hello ' * 100), 'damaged or no memory file'),
    'another safetensors file': (foreign, 'damaged or no memory file'),
    'a later version': (changed(lambda m, t: m.update(format_version=9)), 'format version 9'),
    'a lost layer': (changed(lambda m, t: t.pop('layers.1.keys')), 'layers.1.keys is missing'),
    'a lost row': (changed(lambda m, t: t.update(tokens=t['tokens'][1:])), 'tokens is (12,) torch.int64, expected (13,)'),
    'tokens that are no ids': (changed(lambda m, t: t.update(tokens=t['tokens'].float())), 'tokens is (13,) torch.float32'),
    'not a number': (changed(lambda m, t: t['layers.0.values'].mul_(float('nan'))), 'not finite'),
    'other sizes': (changed(lambda m, t: m['origin'].update(head_size=4)), 'expected (2, 13, 4)'),
    'a size below 0': (changed(lambda m, t: m['origin'].update(n_head=-1)), 'lacks a field or has one of another kind'),
    'rows below 0': (changed(lambda m, t: m['texts'].append({**m['texts'][0], 'rows': -7})), 'lacks a field'),
    'rows of another kind': (changed(lambda m, t: m['texts'][0].update(rows=13.0)), 'lacks a field'),
    'no name': (changed(lambda m, t: m['origin'].pop('name')), 'lacks a field'),
    'a lost text': (changed(lambda m, t: m['texts'][0].pop('text')), 'lacks a field'),
    'layers of another kind': (changed(lambda m, t: m.update(layers=['0'])), 'does not exist'),
    'an origin of another kind': (changed(lambda m, t: m.update(origin=7)), 'lacks a field'),
    'metadata that is a list': (lambda path: write_metadata(path, []), 'format version None'),
    'metadata that is nothing': (lambda path: write_metadata(path, None), 'format version None'),
    'metadata without end': (lambda path: save_file(load_file(path), path, {'memory': '[' * 100_000}), 'damaged or no memory file'),
}


@pytest.mark.parametrize('kind', DAMAGE)
def test_a_damaged_or_foreign_file_is_refused_in_one_line(model, memory, tmp_path, kind):
    damage, message = DAMAGE[kind]
    path = tmp_path / 'm.safetensors'
    memory.save(path)
    damage(path)
    with pytest.raises(ValueError, match='.*') as error:
        PersistentMemory.load(path, model)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_memory_of_another_model_says_which_field_differs(memory, tmp_path):
    memory.save(tmp_path / 'm.safetensors')
    for other, field in ((tiny_model(n_head=4), 'n_head 2'), (tiny_model(n_embd=32), 'head size 8'), (tiny_model(n_layer=4), 'n_layer 3'),
                         (tiny_model(vocab_size=50), 'vocabulary 48'), (tiny_model(seed=3), 'fingerprint')):
        with pytest.raises(ValueError, match=field):
            PersistentMemory.load(tmp_path / 'm.safetensors', other)


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(model, memory, tmp_path, monkeypatch):
    path = tmp_path / 'm.safetensors'
    memory.save(path)
    before = path.read_bytes()

    def full_disk(tensors, part, metadata):
        with open(part, 'wb') as f:
            f.write(b'half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('memory.save_file', full_disk)
    memory.add(model, REMEMBERED)
    with pytest.raises(OSError, match='No space left'):
        memory.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ['m.safetensors']


def test_a_disk_that_takes_no_more_leaves_nothing_half_written(memory, tmp_path):
    resource = pytest.importorskip('resource', reason='file size limits are a Unix thing')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match='could not be written to'):
            memory.save(tmp_path / 'm.safetensors')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []


def old_folder(memory, folder):
    """The original project's layout, written from `memory`."""
    for store, kind in (('keyStore', memory.keys), ('valueStore', memory.values)):
        for layer, heads in kind.items():
            os.makedirs(folder / store / str(layer))
            for head, rows in enumerate(heads):
                first = torch.full((1, rows.size(1)), -torch.inf if store == 'keyStore' else 0.0)
                torch.save(torch.cat((first, rows)), folder / store / str(layer) / f'{head}.pt')
    (folder / 'keyStore' / '0' / '0.faiss').write_bytes(b'not to be read')
    (folder / 'text.txt').write_text('letters here')


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
    assert PersistentMemory.from_folder(str(tmp_path), model, Letters()).tokens.tolist() == Letters().encode('letters here!')


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
