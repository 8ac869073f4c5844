"""
Goes through a written text once more, its tokens given, as it was written or with less of the memory: what a
trace and its check are made of. Writing itself needs to know nothing of being watched.

B rows of the same tokens, T of the prompt, n written, m in a pass; P stored rows that can be drawn from, and
which those are, in their order, in parts [(number of a text, first of its rows, end)].
"""
import copy
from typing import NamedTuple

import torch

from core.generation import chunk_of
from core.held import Layer
from core.index import Index, Table
from core.windows import parts_of_a_run
from extended import ExtendedReader

TOKENS_A_PASS = 128  # written ones, whose attention to all stored rows is there at once


def again(model, ids, T, starts):
    """ids (B, T + n) -> of each pass the step of its first written token, the Cache after it, the parts that
    could be drawn from, and the newest m rows x (B, m, C), from which so many tokens were drawn.

    starts {step: make(idx) -> the Cache to go on with from there, and parts}. The numbers are those of
    writing, a token a pass: what the rows of a pass are does not depend on how many there are, but for
    select 'last'.
    """
    step, end = 0, ids.size(1) - T
    while step < end:
        if step in starts:
            cache, parts = starts[step](ids[:, :T + step])
        m = tokens_of_pass(cache, T + step, min([later for later in starts if later > step] + [end]) - step)
        x = model.hidden(chunk_of(ids[:, :T + step + m - 1], cache), cache, newest=m)[:, -m:]
        yield step, cache, parts, x
        step += m


def tokens_of_pass(cache, T, wanted):
    """How many of `wanted` tokens behind T can be asked for at once: one where the newest row picks for all,
    and where the context is full, since everything is then computed anew."""
    room = cache.size - (T - cache.offset - cache.left(T)) + 1
    return 1 if cache.changes_past else min(wanted, room, TOKENS_A_PASS)


def log_p_of(model, ids, T, starts):
    """-> log p of each written token, in nats: (B, n)."""
    with torch.inference_mode():
        found = [log_p(model, x, ids[:, T + step:T + step + x.size(1)])
                 for step, _, _, x in again(model, ids, T, starts)]
    return torch.cat(found, dim=1)


def log_p(model, x, drawn):
    """Rows x (B, m, C), the tokens drawn from them (B, m) -> log p of those (B, m), row by row of the batch,
    since a vocabulary is large."""
    return torch.stack([model.lm_head(row).float().log_softmax(-1).gather(-1, own[:, None])[:, 0]
                        for row, own in zip(x, drawn)])


# ---- how the memory is read meanwhile ----

def plainly(empty):
    """Not at all."""
    return {0: lambda idx: (new_cache(empty, {}), [])}


def as_attached(model, empty, recalled, hidden=()):
    """As it is attached now -> starts. recalled: of method 5, {step: numbers of texts}.

    hidden: for each row of the batch the (number of a text, first row, end) that nothing looks at; one row by
    methods 1 to 4. () hides nothing.
    """
    if model.recaller is not None:
        return {step: reading_texts(model, empty, numbers, hidden) for step, numbers in recalled.items()}
    memory = next(iter(model.readers.values())).memory
    readers, parts = model.readers if len(memory) else {}, whole(memory.held, memory.held.live.tolist())
    for span in hidden:
        kept = seen_rows(parts, *span)
        readers = {layer: with_rows(one, kept) for layer, one in readers.items()} if kept.any() else {}
    return {0: lambda idx: (new_cache(empty, readers), parts)}


def whole(held, numbers):
    """The parts of texts that can be drawn from as wholes."""
    return [(number, 0, held.texts[number]['rows']) for number in numbers]


def joined_parts(held, runs):
    """The parts of windows that are read as one text: what two share stands in the first of them."""
    return [part for run in runs for part in parts_of_a_run(held.texts, run)]


def new_cache(empty, readers, kept_layers=()):
    cache = empty.empty()
    cache.readers, cache.kept_layers = readers, [*readers, *kept_layers]
    cache.counts.begin(readers)
    return cache


def reading_texts(model, empty, numbers, hidden):
    """Method 5, once it has recalled texts of these numbers."""
    recaller, held = model.recaller, model.recaller.memory.held

    def make(idx):
        cache, parts = new_cache(empty, {}, recaller.layers), []
        if numbers:
            near = recaller.within_reach(idx[:1], held, None)[0]
            parts = joined_parts(held, recaller.runs(held, numbers, recaller.room_beside(near, cache)))
            recaller.fill(model, near, [numbers], cache, held)
        if numbers and hidden:
            seen = torch.stack([seen_rows(parts, *one) for one in hidden]).to(idx.device)
            for layer in recaller.layers:
                hide(cache, layer, seen)
        return cache, parts
    return make


# ---- rows that nothing looks at ----

def seen_rows(parts, number, first, end):
    """(P,) of the rows of these parts, False for those of text `number` from `first` to `end`."""
    seen = [torch.ones(stop - begin, dtype=torch.bool) for _, begin, stop in parts]
    for (of, begin, _), own in zip(parts, seen):
        own[max(0, first - begin):max(0, end - begin)] &= of != number
    return torch.cat(seen)


def hide(cache, layer, seen):
    """Of what was recalled the rows of a layer alone that are seen (B, P)."""
    if layer in cache.readers:
        cache.readers[layer].seen = seen
    else:  # the header stands in front of them
        header = seen.new_ones(len(seen), cache.offset)
        cache.front_seen[layer] = torch.cat((header, seen), dim=1)


class Less(NamedTuple):
    """What a Reader looks at of a memory."""
    header_tokens: int
    stored: Layer

    def layer(self, layer):
        return self.stored


def with_rows(reader, kept):
    """A Reader that finds these rows alone, kept (P,) bool; all else stays as it was, also their places."""
    stored = reader.stored
    less = Layer(Index(stored.keys.table.rows[:, kept]), Table(stored.values.rows[:, kept]), stored.lengths)
    other = copy.copy(reader)
    other.memory = Less(reader.memory.header_tokens, less)
    if isinstance(reader, ExtendedReader) and reader.where in ('own', 'insert'):
        other.placed = less.keys, Index(reader.placed_keys(stored).table.rows[:, kept])
    return other
