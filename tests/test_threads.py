"""
State belongs to the call: threads that write, remember and read with one model get what each gets alone.

$ python -m pytest tests/test_threads.py
"""
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import PROMPT, REMEMBERED, tiny_model

from core.cache import Cache
from memory import PersistentMemory

HOW = dict(layers=(0, 2), method=3, memory_fraction=5.0, bookkeeping_fraction=0.1, softmax_scale=1.0)


def texts_of(model, seeds, ids):
    """Written one after the other, with what each call counted."""
    found = []
    for seed in seeds:
        text = model.generate(torch.tensor([ids]), 12, 0.9, 20, [seed])[0].tolist()
        found.append((text, model.searches, model.picks))
    return found


def built_often(model):
    return [PersistentMemory.from_tokens(model, REMEMBERED, layers=(0, 2)) for _ in range(20)]


@pytest.mark.parametrize('select', ['last', 'each'])
def test_threads_that_write_and_one_that_remembers_get_what_each_gets_alone(select):
    model = tiny_model().freeze()
    memory = PersistentMemory.from_tokens(model, REMEMBERED, layers=(0, 2))
    model.attach_memory(memory, **HOW, select=select)
    jobs = [(range(0, 8), PROMPT), (range(8, 16), PROMPT[::-1][:5]), (range(16, 24), PROMPT[:2])]
    alone = [texts_of(model, *job) for job in jobs]
    with ThreadPoolExecutor(5) as threads:
        written = [threads.submit(texts_of, model, *job) for job in jobs]
        built = [threads.submit(built_often, model) for _ in range(2)]
        assert [one.result() for one in written] == alone
        for one in (one for some in built for one in some.result()):
            assert torch.equal(one.keys[2], memory.keys[2])
            assert torch.equal(one.values[2], memory.values[2])
    assert model.readers


def test_plain_is_plain_for_its_own_thread_alone():
    model = tiny_model()
    model.attach_memory(PersistentMemory.from_tokens(model, REMEMBERED, layers=(0, 2)), **HOW)
    idx, inside, seen = torch.tensor([PROMPT]), threading.Event(), {}
    attached, go_on = model(idx)[0], threading.Event()

    def plain():
        with model.plain():
            inside.set()
            go_on.wait(10)
            seen['plain'] = model(idx)[0]

    thread = threading.Thread(target=plain)
    thread.start()
    inside.wait(10)
    assert torch.equal(model(idx)[0], attached)
    go_on.set()
    thread.join()
    assert not torch.equal(seen['plain'], attached)
    assert torch.equal(seen['plain'], tiny_model()(idx)[0])


def test_a_call_reads_to_its_end_what_was_attached_when_it_began():
    model = tiny_model()
    model.attach_memory(PersistentMemory.from_tokens(model, REMEMBERED, layers=(0, 2)), **HOW, select='each')
    cache = Cache(len(PROMPT))
    expected = model(torch.tensor([PROMPT]))[0]
    model(torch.tensor([PROMPT[:6]]), cache=cache)
    readers = cache.readers
    model.detach_memory()
    model.hidden(torch.tensor([PROMPT[6:-1]]), cache)
    assert cache.readers is readers
    newest = model.newest_logits(torch.tensor([PROMPT[-1:]]), cache)
    torch.testing.assert_close(newest, expected[0], atol=1e-4, rtol=1e-4)


def test_what_is_added_while_others_read_is_seen_whole_or_not_at_all():
    model = tiny_model()
    memory = PersistentMemory.from_tokens(model, REMEMBERED, layers=(0, 2))
    wrong, done = [], threading.Event()

    def look():
        while not done.is_set():
            stored = memory.layer(0)
            held = len(stored.keys)
            ids = stored.keys.search(torch.tensor([0, 1]), torch.zeros(2, 8), 20)[1]
            if (ids >= 0).sum() != 2 * min(20, held) or stored.values.rows.size(1) != held:
                wrong.append(ids)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(30):
        memory.add(model, REMEMBERED[:7])
    done.set()
    thread.join()
    assert not wrong
    assert len(memory) == 13 + 30 * 6
    assert {layer: keys.size(1) for layer, keys in memory.keys.items()} == {0: 193, 2: 193}


def test_a_memory_that_was_attached_empty_is_read_once_it_is_filled():
    model = tiny_model()
    memory = PersistentMemory(PersistentMemory.from_tokens(model, [1, 2], (0, 2)).origin, (0, 2))
    plain = model(torch.tensor([PROMPT]))[0]
    model.attach_memory(memory, **HOW)
    assert torch.equal(model(torch.tensor([PROMPT]))[0], plain)
    memory.add(model, REMEMBERED)
    late = model(torch.tensor([PROMPT]))[0]
    assert not torch.equal(late, plain)
    model.attach_memory(memory, **HOW)
    assert torch.equal(model(torch.tensor([PROMPT]))[0], late)
