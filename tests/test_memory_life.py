"""
A memory's life: saved as files and libraries, added to, forgotten from, merged, compacted, and read back.

$ python -m pytest tests/test_memory_life.py
"""
import copy
import json
import os
import threading

import pytest
import torch
from conftest import PROMPT, ROOT, tiny_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_rotary import tiny_family

from core.memory_file import OnDisk
from core.origin import describe
from load import tokenizer_of_folder
from memory import PersistentMemory

HEADER = [3, 17]
IDS = [[(7 * n + 5 * i + i * i) % 48 for i in range(length)] for n, length in enumerate((9, 4, 7, 12, 5))]
HEADS = (0, 1), (0, 2), (2, 3)


@pytest.fixture(scope='module')
def llama():
    return tiny_family('llama')


KINDS = {'no index': {}, 'values': {'index_heads': HEADS},
         'some layers': {'index_heads': HEADS, 'layers': (1,)},
         'tokens': {'index_heads': HEADS, 'layers': (), 'keep': 'tokens'}}


def remembered(model, ids=IDS, layers=(0, 1, 2), dtype='float32', **kind):
    memory = PersistentMemory(describe(model), layers, len(HEADER), 'tiny', **kind)
    memory.dtype = dtype
    return added(memory, model, ids)


def added(memory, model, ids):
    for one in ids:
        memory.add(model, HEADER + one, source=f'of {one[0]}', text=' '.join(map(str, one)))
    return memory


def check_same(memory, other, model, tolerance=0.0):
    """Two memories hold the same texts but for forgotten ones, and the same rows of each."""
    numbers, others = memory.held.live.tolist(), other.held.live.tolist()
    assert [memory.texts[n] for n in numbers] == [other.texts[n] for n in others]
    assert memory.description() | {'dtype': ''} == other.description() | {'dtype': ''}
    assert torch.equal(memory.tokens, other.tokens)
    for n, m in zip(numbers, others):
        layers = (1,) if memory.layers == (1,) else (0, 1, 2)
        ours, theirs = (one.rows_of(model, one.held, [(i,)], layers)[i,]
                        for one, i in ((memory, n), (other, m)))
        for a, b in ((a, b) for layer in layers for a, b in zip(ours[layer], theirs[layer])):
            torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)
    for layer in memory.index_key_heads:
        for a, b in zip(*(live_rows(one, layer) for one in (memory, other))):
            torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def live_rows(memory, layer):
    """Of each key head of an index layer, the rows of texts that are not forgotten."""
    spans = memory.held.spans(memory.held.live.tolist())
    rows = [memory.index(memory.held, layer, head).float() for head in memory.index_key_heads[layer]]
    return [torch.cat([own[a:b] for a, b in spans]) for own in rows]


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


# ---- saved and read back ----

@pytest.mark.parametrize('path', ['notes.safetensors', 'notes'])
@pytest.mark.parametrize('dtype, tolerance', [('float32', 0.0), ('bfloat16', 0.01)])
def test_what_is_saved_is_read_back_as_a_file_and_as_a_library(llama, kind, path, dtype, tolerance, tmp_path):
    memory = remembered(llama, dtype=dtype, **kind)
    memory.save(tmp_path / path)
    read = PersistentMemory.load(tmp_path / path, llama)
    check_same(memory, read, llama, tolerance)
    assert read.dtype == dtype and os.path.isdir(tmp_path / path) == (path == 'notes')
    check_same(added(memory, llama, [IDS[0]]), added(read, llama, [IDS[0]]), llama, tolerance)


def test_bfloat16_halves_a_file_and_tokens_alone_take_their_keys_and_little_more(llama, tmp_path):
    sizes = {}
    for name, more in {'values': {}, 'half': {'dtype': 'bfloat16'}, 'tokens': KINDS['tokens']}.items():
        remembered(llama, IDS * 8, **{'index_heads': HEADS, **more}).save(tmp_path / f'{name}.safetensors')
        tensors = load_file(tmp_path / f'{name}.safetensors')
        sizes[name] = sum(w.nbytes for key, w in tensors.items() if key != 'tokens')
    assert sizes['half'] * 2 == sizes['values']
    nkv, heads = llama.config.n_kv_head, 1 + 1  # query heads 1 and 2 share a key head with none or each other
    assert sizes['tokens'] <= sizes['values'] * (heads + 1) / (nkv * 6)


def test_rows_beside_an_index_stay_on_the_disk_until_a_text_is_recalled(llama, tmp_path, monkeypatch):
    memory, asked, read = remembered(llama, index_heads=HEADS), [], OnDisk.__getitem__
    memory.save(tmp_path / 'notes')
    monkeypatch.setattr(OnDisk, '__getitem__', lambda on, at: asked.append((on.name, at)) or read(on, at))
    loaded = PersistentMemory.load(tmp_path / 'notes', llama)
    assert asked == []
    rows = loaded.rows_of(llama, loaded.held, [(2,)], (0, 2))[2,]
    first, end = 9 + 4, 9 + 4 + 7
    assert [at[1] for _, at in asked] == [slice(first, end)] * 4
    assert torch.equal(rows[2][1], memory.rows_of(llama, memory.held, [(2,)], (2,))[2,][2][1])


def test_rows_on_the_disk_that_are_no_numbers_are_named(llama, tmp_path):
    path = tmp_path / 'notes.safetensors'
    remembered(llama, index_heads=HEADS).save(path)
    with safe_open(path, 'pt') as f:
        metadata = f.metadata()
    tensors = load_file(path)
    tensors['layers.1.values'][:, 9 + 2] = torch.nan
    save_file(tensors, path, metadata)
    loaded = PersistentMemory.load(path, llama)
    loaded.rows_of(llama, loaded.held, [(0,)], (0, 1, 2))
    with pytest.raises(ValueError, match='damaged, layers.1.values holds numbers that are not finite'):
        loaded.rows_of(llama, loaded.held, [(1,)], (0, 1, 2))


def test_a_copy_of_a_loaded_memory_is_independent_of_its_files(llama, tmp_path):
    remembered(llama, index_heads=HEADS).save(tmp_path / 'notes')
    loaded = PersistentMemory.load(tmp_path / 'notes', llama)
    check_same(loaded, copy.deepcopy(loaded), llama)


def test_layers_that_are_asked_for_are_read_and_index_heads_of_the_others_too(llama, tmp_path):
    memory = remembered(llama, index_heads=HEADS)
    memory.save(tmp_path / 'notes.safetensors')
    some = PersistentMemory.load(tmp_path / 'notes.safetensors', llama, (1,))
    assert some.layers == (1,)
    for layer in (0, 2):
        assert all(torch.equal(a, b) for a, b in zip(live_rows(some, layer), live_rows(memory, layer)))
    with pytest.raises(ValueError, match='holds more layers than'):
        some.save(tmp_path / 'notes.safetensors')


def test_a_file_of_format_version_2_is_read(llama, tmp_path):
    path = tmp_path / 'notes.safetensors'
    memory = remembered(llama)
    memory.save(path)
    with safe_open(path, 'pt') as f:
        metadata = json.loads(f.metadata()['memory'])
    for name in ('keep', 'index_heads', 'header'):
        del metadata[name]
    save_file(load_file(path), path, {'memory': json.dumps({**metadata, 'format_version': 2})})
    memory.header = ()  # such a file does not say
    check_same(memory, PersistentMemory.load(path, llama), llama)


@pytest.mark.parametrize('change', [{'keep': 'words'}, {'keep': 'tokens'}, {'index_heads': [[0, 9]]},
                                    {'index_heads': [[0]]}, {'index_heads': 7}, {'header': ['3']},
                                    {'dtype': 'float16'}, {'texts': [{'source': '', 'text': '', 'rows': 37,
                                                                      'window': 1}]}], ids=str)
def test_a_description_of_another_kind_is_refused(llama, tmp_path, change):
    path = tmp_path / 'notes.safetensors'
    remembered(llama, index_heads=HEADS).save(path)
    with safe_open(path, 'pt') as f:
        metadata = json.loads(f.metadata()['memory'])
    save_file(load_file(path), path, {'memory': json.dumps({**metadata, **change})})
    with pytest.raises(ValueError, match='lacks a field or has one of another kind'):
        PersistentMemory.load(path, llama)


# ---- a library is added to ----

def test_saving_again_writes_what_is_new_alone(llama, kind, tmp_path):
    memory = remembered(llama, IDS[:3], **kind)
    memory.save(tmp_path / 'notes')
    before = {name: (tmp_path / 'notes' / name).stat().st_mtime_ns for name in os.listdir(tmp_path / 'notes')}
    added(memory, llama, IDS[3:4])
    memory.save(tmp_path / 'notes')
    loaded = PersistentMemory.load(tmp_path / 'notes', llama)
    added(loaded, llama, IDS[4:])
    loaded.save(tmp_path / 'notes')
    loaded.forget([0, 3])
    loaded.save(tmp_path / 'notes')
    manifest = (tmp_path / 'notes' / 'manifest.txt').read_bytes()
    loaded.save(tmp_path / 'notes')  # nothing is new
    assert (tmp_path / 'notes' / 'manifest.txt').read_bytes() == manifest
    after = {name: (tmp_path / 'notes' / name).stat().st_mtime_ns for name in os.listdir(tmp_path / 'notes')}
    segments = [name for name in before if name.startswith('segment')]
    assert all(after[name] == before[name] for name in segments) and len(after) == len(before) + 2
    some = remembered(llama, [IDS[1], IDS[2], IDS[4]], **kind)
    check_same(some, PersistentMemory.load(tmp_path / 'notes', llama), llama)


def test_a_library_that_is_another_memorys_is_appended_to_but_never_replaced(llama, kind, tmp_path):
    remembered(llama, IDS[:2], **kind).save(tmp_path / 'notes')
    other = remembered(llama, IDS[2:], **kind)
    with pytest.raises(FileExistsError, match='notes holds a memory already'):
        other.save(tmp_path / 'notes')
    other.append(tmp_path / 'notes')
    check_same(remembered(llama, **kind), PersistentMemory.load(tmp_path / 'notes', llama), llama)
    with pytest.raises(ValueError, match="the library's dtype is float32, that of what is added is bfloat16"):
        remembered(llama, dtype='bfloat16', **kind).append(tmp_path / 'notes')


def test_a_text_that_a_thread_adds_while_a_library_is_saved_is_saved_next_time(llama, tmp_path, monkeypatch):
    from core import stored
    memory, append = remembered(llama, IDS[:2], index_heads=HEADS), stored.append

    def meanwhile(*given):
        thread = threading.Thread(target=added, args=(memory, llama, IDS[2:3]))
        thread.start()
        thread.join()
        return append(*given)

    monkeypatch.setattr(stored, 'append', meanwhile)
    memory.save(tmp_path / 'notes')
    monkeypatch.setattr(stored, 'append', append)
    assert len(PersistentMemory.load(tmp_path / 'notes', llama).texts) == 2
    memory.save(tmp_path / 'notes')
    check_same(memory, PersistentMemory.load(tmp_path / 'notes', llama), llama)


# ---- forgotten, compacted, merged ----

def test_a_forgotten_text_is_gone_and_the_others_keep_their_numbers_until_the_memory_is_compacted(
        llama, kind, tmp_path):
    memory, kept = remembered(llama, **kind), remembered(llama, [IDS[0], IDS[2], IDS[4]], **kind)
    memory.save(tmp_path / 'notes')
    assert memory.forget([1]) == 1 and memory.forget('of 21') == 1
    for path in ('notes', 'notes.safetensors'):
        memory.save(tmp_path / path)
        check_same(kept, PersistentMemory.load(tmp_path / path, llama), llama)
    check_same(kept, memory, llama)
    assert PersistentMemory.load(tmp_path / 'notes', llama).texts == remembered(llama, **kind).texts
    assert words_in(tmp_path / 'notes', memory.texts[1]['text'])
    assert memory.compact() == 2 and memory.texts == kept.texts
    check_same(kept, memory, llama)
    assert not words_in(tmp_path / 'notes', ' '.join(map(str, IDS[1])))
    check_same(added(memory, llama, IDS[1:2]), added(kept, llama, IDS[1:2]), llama)
    memory.save(tmp_path / 'notes')
    check_same(kept, PersistentMemory.load(tmp_path / 'notes', llama), llama)


def words_in(folder, words):
    return any(words.encode() in (folder / name).read_bytes() for name in os.listdir(folder))


def test_a_memory_without_a_library_is_compacted_too_and_one_of_nothing_is_empty(llama, kind, tmp_path):
    memory = remembered(llama, **kind)
    memory.forget(range(4))
    assert memory.compact() == 4 and len(memory.texts) == 1
    check_same(remembered(llama, IDS[4:], **kind), memory, llama)
    memory.save(tmp_path / 'notes')
    memory.forget((0,))
    assert memory.compact() == 1 and len(memory) == 0
    empty = PersistentMemory.load(tmp_path / 'notes', llama)
    assert len(empty) == 0 and empty.texts == []
    check_same(added(memory, llama, IDS), added(empty, llama, IDS), llama)


@pytest.mark.parametrize('which, message', [
    ([5], 'text 5 does not exist or is forgotten: the texts are 0 to 4'), ([-1], 'text -1 does not exist'),
    ([0, 3], 'text 3 .* is forgotten'), ('nobody', "no text is from 'nobody'"), ([True], 'text is True')])
def test_what_is_not_there_cannot_be_forgotten(llama, which, message):
    memory = remembered(llama)
    memory.forget(3)
    with pytest.raises(ValueError, match=message):
        memory.forget(which)
    assert memory.forgotten == {3}


@pytest.mark.parametrize('method', [1, 2, 3, 4])
def test_reading_a_memory_that_forgot_a_text_is_reading_one_that_never_had_it(method):
    model = tiny_model()
    memory, kept = (PersistentMemory(describe(model), (0, 2)) for _ in range(2))
    for n, ids in enumerate(IDS):
        memory.add(model, ids)
        if n != 2:
            kept.add(model, ids)
    memory.forget([2])
    found = []
    for one in (memory, kept):
        model.attach_memory(one, layers=(0, 2), method=method, memory_fraction=5.0, softmax_scale=1.0)
        found.append(model(torch.tensor([PROMPT]))[0])
    assert torch.equal(*found)
    assert len(memory) == len(kept)
    assert all(memory.text_of(row) == kept.text_of(row) for row in range(len(memory)))


def test_two_memories_become_one(llama, kind, tmp_path):
    other = remembered(llama, IDS[1:3], **kind)
    other.save(tmp_path / 'other')
    added(other, llama, IDS[3:]).forget([1])
    other.save(tmp_path / 'other')
    memory = remembered(llama, IDS[:1], **kind)
    memory.merge(PersistentMemory.load(tmp_path / 'other', llama))
    check_same(remembered(llama, [IDS[0], IDS[1], *IDS[3:]], **kind), memory, llama)
    memory.save(tmp_path / 'notes')
    check_same(memory, PersistentMemory.load(tmp_path / 'notes', llama), llama)


def test_memories_of_two_kinds_or_models_do_not_become_one(llama):
    memory, before = remembered(llama, index_heads=HEADS), len(IDS)
    with pytest.raises(ValueError, match='the memories differ in index_heads'):
        memory.merge(remembered(llama))
    with pytest.raises(ValueError, match='written by'):
        memory.merge(remembered(tiny_family('qwen3')))
    with pytest.raises(ValueError, match='stand behind different prefixes|differ in header'):
        other = PersistentMemory(describe(llama), (0, 1, 2), 2, 'tiny', HEADS)
        other.add(llama, [5, 5, 1, 2, 3])
        memory.merge(other)
    assert len(memory.texts) == before


# ---- long texts ----

@pytest.fixture(scope='module')
def tinyworld():
    return tokenizer_of_folder(f'{ROOT}/assets/tinyworld')


def test_a_text_longer_than_a_window_becomes_windows_that_know_their_place(tinyworld):
    model = tiny_model(vocab_size=tinyworld.n_vocab, block_size=64)
    text = ' '.join(f'The mayor of town {n} is old. ' for n in range(30))
    memory = PersistentMemory.from_texts(model, [text, 'Cats are good. '], tinyworld, layers=(0,),
                                         sources=['towns', 'cats'], window_tokens=24, window_overlap=6)
    *windows, cats = memory.texts
    rows = len(tinyworld.encode('Cats are good.'))
    assert cats == {'source': 'cats', 'text': 'Cats are good.', 'rows': rows}
    assert len(windows) > 5 and all(one['rows'] <= 24 for one in windows)
    assert all(text[one['start']:one['end']] == one['text'] for one in windows)
    assert [(one['window'], one['of'], one['source']) for one in windows] == [
        (n, len(windows), 'towns') for n in range(len(windows))]


@pytest.mark.parametrize('kind', [{}, {'index_heads': ((0, 1),)}], ids=str)
def test_what_does_not_fit_the_models_context_is_cut_and_not_refused(tinyworld, kind):
    model = tiny_model(vocab_size=tinyworld.n_vocab, block_size=64)
    texts = ['The mayor of town 5 is old. ' * 40]
    memory = PersistentMemory.from_texts(model, texts, tinyworld, layers=(0,), **kind)
    assert 40 < max(one['rows'] for one in memory.texts) <= 63


def test_without_index_heads_a_text_is_whole_as_far_as_the_model_sees_and_with_them_of_256_tokens(tinyworld):
    model = tiny_model(vocab_size=tinyworld.n_vocab, block_size=1024, n_embd=8, n_layer=1)
    text = 'The mayor of town 5 is old. ' * 40
    whole, cut = (PersistentMemory.from_texts(model, [text], tinyworld, layers=(0,), index_heads=heads).texts
                  for heads in ((), ((0, 1),)))
    assert len(whole) == 1 and whole[0]['rows'] > 256
    assert len(cut) > 1 and max(one['rows'] for one in cut) <= 256
