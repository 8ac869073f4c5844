"""
Memory files: what they hold, that they survive a new process, refuse damage, and are written whole.

$ python -m pytest tests/test_memory_file.py
"""
import json
import os
import random
import subprocess
import sys

import pytest
import torch
from conftest import REMEMBERED, ROOT, tiny_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_library import segment, words_of

from core import atomic, library, memory_file
from memory import PersistentMemory

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


def test_a_file_gives_the_layers_that_are_asked_for(model, memory, tmp_path):
    path = str(tmp_path / 'memory.safetensors')
    memory.save(path)
    some = PersistentMemory.load(path, model, (2, 0))
    assert some.layers == (0, 2)
    for layer in some.layers:
        assert torch.equal(some.keys[layer], memory.keys[layer])
        assert torch.equal(some.values[layer], memory.values[layer])
    with pytest.raises(ValueError, match=r'layers \(4,\) cannot read: the memory holds layers \(0, 1, 2\)'):
        PersistentMemory.load(path, model, (4,))


def test_the_file_holds_what_the_format_says(memory, tmp_path):
    memory.save(tmp_path / 'm.safetensors')
    tensors = load_file(tmp_path / 'm.safetensors')
    of_layers = [f'layers.{i}.{kind}' for i in range(3) for kind in ('keys', 'values')]
    assert sorted(tensors) == sorted([*of_layers, 'tokens'])
    assert tensors['layers.0.keys'].shape == (2, 13, 8)
    assert tensors['tokens'].tolist() == REMEMBERED[1:]
    with safe_open(tmp_path / 'm.safetensors', 'pt') as f:
        metadata = json.loads(f.metadata()['memory'])
    assert {'format_version', 'origin', 'tokenizer', 'bookkeeping_tokens',
            'texts', 'dtype'} <= metadata.keys()
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
    'a later version': (
        changed(lambda m, t: m.update(format_version=9)), 'format version 9, this program reads 1, 2, 3'),
    'a lost layer': (changed(lambda m, t: t.pop('layers.1.keys')), 'layers.1.keys is missing'),
    'a lost row': (
        changed(lambda m, t: t.update(tokens=t['tokens'][1:])),
        'tokens is (12,) torch.int64, expected (13,)'),
    'tokens that are no ids': (
        changed(lambda m, t: t.update(tokens=t['tokens'].float())), 'tokens is (13,) torch.float32'),
    'not a number': (changed(lambda m, t: t['layers.0.values'].mul_(float('nan'))), 'not finite'),
    'other sizes': (
        changed(lambda m, t: m['origin'].update(head_size=4)), 'with head size 4, the model is'),
    'a size below 0': (
        changed(lambda m, t: m['origin'].update(n_head=-1)), 'lacks a field or has one of another kind'),
    'rows below 0': (
        changed(lambda m, t: m['texts'].append({**m['texts'][0], 'rows': -7})), 'lacks a field'),
    'an ending longer than its text': (
        changed(lambda m, t: m['texts'][0].update(ending=10**6)), 'lacks a field'),
    'an ending that is no number': (changed(lambda m, t: m['texts'][0].update(ending='1')), 'lacks a field'),
    'rows of another kind': (changed(lambda m, t: m['texts'][0].update(rows=13.0)), 'lacks a field'),
    'no name': (changed(lambda m, t: m['origin'].pop('name')), 'lacks a field'),
    'a lost text': (changed(lambda m, t: m['texts'][0].pop('text')), 'lacks a field'),
    'layers of another kind': (changed(lambda m, t: m.update(layers=['0'])), 'lacks a field'),
    'an origin of another kind': (changed(lambda m, t: m.update(origin=7)), 'lacks a field'),
    'metadata that is a list': (lambda path: write_metadata(path, []), 'format version None'),
    'metadata that is nothing': (lambda path: write_metadata(path, None), 'format version None'),
    'metadata without end': (
        lambda path: save_file(load_file(path), path, {'memory': '[' * 100_000}),
        'damaged or no memory file'),
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
    for other, field in (
            (tiny_model(n_head=4), 'n_head 2'),
            (tiny_model(n_embd=32), 'head size 8'),
            (tiny_model(n_layer=4), 'n_layer 3'),
            (tiny_model(vocab_size=50), 'vocabulary 48'),
            (tiny_model(seed=3), 'fingerprint')):
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

    monkeypatch.setattr('core.memory_file.save_file', full_disk)
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


def test_a_single_flipped_bit_is_found_wherever_it_is(model, memory, tmp_path):
    path, rng = tmp_path / 'm.safetensors', random.Random(0)
    memory.save(path)
    whole, unharmed = path.read_bytes(), 0
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            read = PersistentMemory.load(path, model)
        except ValueError as error:
            assert '\n' not in str(error)
            continue
        unharmed += 1  # a name in the header that nothing looks at
        assert read.texts == memory.texts
        assert torch.equal(read.tokens, memory.tokens)
        for layer in range(3):
            assert torch.equal(read.keys[layer], memory.keys[layer])
            assert torch.equal(read.values[layer], memory.values[layer])
    assert unharmed < 8


@pytest.mark.parametrize('name', ['layers.1.keys', 'layers.2.values', 'tokens'])
def test_another_number_in_any_tensor_is_named(model, memory, tmp_path, name):
    path = tmp_path / 'm.safetensors'
    memory.save(path)
    changed(lambda m, t: t[name].view(-1)[0].add_(1))(path)
    with pytest.raises(ValueError, match=f'damaged, {name} holds other numbers than were written'):
        PersistentMemory.load(path, model)


def test_a_file_of_format_version_1_is_read_and_checked_by_its_own_fingerprint(model, memory, tmp_path):
    path = tmp_path / 'm.safetensors'
    memory.save(path)

    def as_version_1(metadata, tensors):
        metadata.update(format_version=1)
        metadata['origin']['fingerprint'] = model.state.sampled_fingerprint(model)
        del metadata['checksums']

    changed(as_version_1)(path)
    old = PersistentMemory.load(path, model)
    assert old.origin == memory.origin
    assert torch.equal(old.keys[1], memory.keys[1])
    assert torch.equal(PersistentMemory.load(path, tiny_model().to(torch.bfloat16)).keys[1], memory.keys[1])
    with pytest.raises(ValueError, match='weights of fingerprint'):
        PersistentMemory.load(path, tiny_model(seed=1))
    old.save(path)
    with safe_open(path, 'pt') as f:
        assert json.loads(f.metadata()['memory'])['format_version'] == 3


def test_what_was_read_does_not_change_with_its_file(model, memory, tmp_path):
    path = tmp_path / 'm.safetensors'
    memory.save(path)
    read = PersistentMemory.load(path, model)
    with open(path, 'r+b') as f:  # another program, in place
        f.seek(-100, 2)
        f.write(b'\xff' * 100)
        f.truncate(500)
    assert torch.equal(read.keys[2], memory.keys[2])
    assert torch.equal(read.values[2], memory.values[2])


def test_a_partly_loaded_memory_is_not_saved_over_the_layers_that_were_left_out(model, memory, tmp_path):
    path = tmp_path / 'm.safetensors'
    memory.save(path)
    some = PersistentMemory.load(path, model, (2,))
    before = path.read_bytes()
    os.symlink(path, tmp_path / 'link.safetensors')
    for name in ('m.safetensors', 'link.safetensors'):
        with pytest.raises(ValueError, match='holds more layers than the'):
            some.save(tmp_path / name)
    assert path.read_bytes() == before
    some.save(tmp_path / 'other.safetensors')
    PersistentMemory.load(path, model).save(path)


def test_the_model_is_compared_before_the_layers(memory, tmp_path):
    memory.save(tmp_path / 'm.safetensors')
    with pytest.raises(ValueError, match='memory was written by'):
        PersistentMemory.load(tmp_path / 'm.safetensors', tiny_model(n_layer=12), (9,))


def test_a_file_that_may_not_be_read_says_so(model, memory, tmp_path, monkeypatch):
    memory.save(tmp_path / 'm.safetensors')

    def refuse(*_, **__):
        raise PermissionError(13, 'Permission denied')

    # as the system does; root, who may run this, may read everything
    monkeypatch.setattr('builtins.open', refuse)
    message = r'm.safetensors may not be read \(Permission denied\): change its permissions'
    with pytest.raises(PermissionError, match=message):
        PersistentMemory.load(tmp_path / 'm.safetensors', model)


def test_of_two_writers_of_one_new_file_the_second_is_told(memory, tmp_path):
    path = str(tmp_path / 'm.safetensors')
    with pytest.raises(FileExistsError, match='m.safetensors exists by now, another process wrote it'):
        with atomic.whole_files(tmp_path, replace=False) as beside:
            memory.save(path, replace=False)  # meanwhile
            first = (tmp_path / 'm.safetensors').read_bytes()
            with open(os.path.join(beside, 'm.safetensors'), 'wb') as f:
                f.write(b'second')
    assert (tmp_path / 'm.safetensors').read_bytes() == first
    assert os.listdir(tmp_path) == ['m.safetensors']
    with pytest.raises(FileExistsError):
        memory.save(path, replace=False)
    memory.save(path)


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_an_older_one(memory, tmp_path, monkeypatch):
    done = []

    def noted(name, function):
        def call(*given):
            path = os.readlink(f'/proc/self/fd/{given[0]}') if name == 'fsync' else given[1]
            done.append((name, os.path.basename(path)))
            return function(*given)
        return call

    monkeypatch.setattr('os.fsync', noted('fsync', os.fsync))
    monkeypatch.setattr('os.replace', noted('replace', os.replace))
    memory.save(tmp_path / 'm.safetensors')
    assert done == [('fsync', 'm.safetensors'), ('replace', 'm.safetensors'), ('fsync', tmp_path.name)]


WRITE = """
import sys, time
sys.path.insert(0, {root!r})
from core.atomic import whole_files
with whole_files({folder!r}) as beside:
    open(beside + '/half', 'wb').write(b'x')
    print('writing', flush=True)
    time.sleep(60)
"""


def test_the_next_writer_sweeps_what_a_killed_one_left_and_leaves_one_at_work_alone(tmp_path):
    code = WRITE.format(root=ROOT, folder=str(tmp_path))
    command = [sys.executable, '-c', code]
    killed, at_work = (subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2))
    for process in (killed, at_work):
        process.stdout.readline()
    killed.kill()
    killed.wait()
    assert len(os.listdir(tmp_path)) == 2
    with atomic.whole_files(tmp_path) as beside:
        (tmp_path / beside / 'whole').write_bytes(b'y')
    left = sorted(os.listdir(tmp_path))
    assert (len(left), left[1]) == (2, 'whole')
    assert os.listdir(tmp_path / left[0]) == ['half']
    at_work.kill()
    at_work.wait()


def test_an_error_that_is_not_the_disks_keeps_its_cause(tmp_path):
    with pytest.raises(RuntimeError, match='mat1 and mat2 shapes'):
        with atomic.whole_files(tmp_path):
            torch.ones(2, 3) @ torch.ones(2, 3)
    with pytest.raises(OSError, match='could not be written to'):
        with atomic.whole_files(tmp_path):
            torch.save({}, tmp_path / 'no' / 'such' / 'folder.pt')
    assert os.listdir(tmp_path) == []


def test_a_segment_compacted_away_while_it_is_opened_is_looked_for_again(tmp_path, monkeypatch):
    really, opened = memory_file.safe_open, []
    library.append(tmp_path, [segment('keep', 'drop')])

    def too_late(path, **how):
        opened.append(path)
        if len(opened) > 1:
            return really(path, **how)
        library.forget(tmp_path, {os.path.basename(path): [1]})
        library.compact(tmp_path)
        raise RuntimeError(f"unable to open file <{path}> in read-only mode")  # safetensors' own
    monkeypatch.setattr(memory_file, 'safe_open', too_late)
    assert words_of(tmp_path) == ['keep']
