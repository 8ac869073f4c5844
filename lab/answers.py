"""
Answers to questions, each with texts, in its prompt or read from memory. They are written side by side, and
what was asked before of the same texts is not written again.
"""
import functools
from collections import Counter

import torch

from core.cache import Cache, stand_in_front
from core.chat import Turn, chat_frame, turn_behind_header
from core.generation import Writing, before_end, write
from core.rotary import turn
from core.rows import run_together
from lab.conditions import reading_memory
from lab.made_up import bare
from memory import PersistentMemory

ROWS_TOGETHER = 16  # prompts that are written at once: a step of sixteen costs little more than one of one


# ---- prompts ----

def prefix_of(tokenizer, asking):
    """What the texts stand behind, as the questions do."""
    return chat_frame(tokenizer, asking.system)[0] if asking.chat else '\n'


def turn_of(tokenizer, question, asking, before=''):
    """A question's ids, and which of them are its own words; `before`: a text in front of it."""
    if asking.chat:
        words = f'{before}\n{question.words}' if before else question.words
        return turn_behind_header(tokenizer, words, asking.system)
    front, own, behind = (list(tokenizer.encode(part)) if part else []
                          for part in bare(question, f'\n{before}' if before else ''))
    return Turn(front + own + behind, len(front), len(front) + len(own))


# ---- memories ----

def remembered(model, tokenizer, task, texts, keep='tokens'):
    """What the model chooses from: the index heads' keys, as the template of a library has them, and the
    tokens of these texts; with keep 'values' all that it reads of them."""
    heads = task.reading.index_heads if task.reading.method == 5 else ()
    layers = task.reading.layers if keep == 'values' else ()
    return PersistentMemory.from_texts(model, texts, tokenizer, layers, heads, keep,
                                       prefix=prefix_of(tokenizer, task.asking),
                                       dtype='int8' if keep == 'tokens' else 'float32', ending='\n',
                                       window_tokens=model.config.block_size)  # whole texts, as in a prompt


# ---- answers ----

@functools.lru_cache(4)
def known(fingerprint, dtypes, chat, system, new_tokens, end_ids):
    """Answers by now: {(question, texts, how they are read): the answer}. How () is in the prompt."""
    return {}


def answers(model, tokenizer, task, asked):
    """asked [(number of a question, the texts that it is asked with)] -> texts, the likeliest answers up to
    the token that ends each.

    Texts are read from memory under the conditions that read, and stand in the prompt under the others.
    """
    dtypes = model.transformer.wte.weight.dtype, model.state.rounded
    before = known(model.fingerprint(), dtypes, task.asking.chat, task.asking.system, task.new_tokens,
                   task.end_ids)
    reading, reads = task.reading, task.condition in ('memory', 'right')
    way = (reading.layers, reading.positions, reading.distance) if reads else ()
    wanted = [(task.library.questions[n], texts, way if texts else ()) for n, texts in asked]
    for way in {key[2] for key in wanted}:
        new = list(dict.fromkeys(key for key in wanted if key[2] == way and key not in before))
        pairs = [key[:2] for key in new]
        before.update(zip(new, (read if way else prompted)(model, tokenizer, task, pairs)))
    return [before[key] for key in wanted]


def prompted(model, tokenizer, task, pairs):
    """pairs [(question, the texts before it)] -> answers; of the attached memory where there is one."""
    prompts = [turn_of(tokenizer, question, task.asking, '\n'.join(texts)).ids for question, texts in pairs]
    longest = max(map(len, prompts), default=0) + task.new_tokens
    # else a token's place in its row counts
    if model.rotary is not None and not model.readers and longest <= model.config.block_size:
        alone = [turn_of(tokenizer, question, task.asking) for question, _ in pairs]
        tails = [len(turn.ids) - max(1, turn.start) for turn in alone]
        return beside(model, tokenizer, task, [(tuple(ids[:-tail]), tuple(ids[-tail:]))
                                               for ids, tail in zip(prompts, tails)])

    def go_on(batch):
        idx = idx_of(model, [prompts[i] for i in batch])
        return model.generate(idx, task.new_tokens, top_k=1, end_ids=task.end_ids)[:, idx.size(1):]
    return written(tokenizer, task, [tuple(ids) for ids in prompts], go_on)


def beside(model, tokenizer, task, prompts):
    """prompts [(the ids before a question, its own)] -> answers. What several questions stand behind runs
    once, and stands in front of their rows, as a recalled text does."""
    layers, numbers = range(model.config.n_layer), {}
    for front, _ in prompts:
        numbers.setdefault(front, len(numbers))
    rows = [torch.tensor(front) for front in numbers]
    kept = {n: {layer: before(model.rotary, *both) for layer, both in heads.items()}
            for n, heads in run_together(model, rows, [0] * len(rows), layers)}

    def go_on(batch):
        idx = idx_of(model, [prompts[i][1] for i in batch])
        cache = cache_of(model, task, idx.size(1))
        for layer in layers:
            stand_in_front(cache, layer, [kept[numbers[prompts[i][0]]][layer] for i in batch], idx.device)
        return gone_on(model, task, cache, idx)
    return written(tokenizer, task, [tail for _, tail in prompts], go_on)


def before(rotary, keys, values):
    """Keys and values, each (nkv, P, hs), of the P tokens before the first -> (2 nkv, P, hs)."""
    return torch.cat((turn(keys, rotary.at(torch.arange(-keys.size(1), 0))), values))


def read(model, tokenizer, task, pairs):
    """As prompted, where method 5 reads just these texts."""
    if not pairs:
        return []
    numbers = {text: n for n, text in enumerate(dict.fromkeys(text for _, texts in pairs for text in texts))}
    memory = remembered(model, tokenizer, task, list(numbers), 'values')
    prompts = [tuple(turn_of(tokenizer, question, task.asking).ids) for question, _ in pairs]

    def go_on(batch):
        idx = idx_of(model, [prompts[i] for i in batch])
        cache = cache_of(model, task, idx.size(1))
        recalled = [tuple(numbers[text] for text in pairs[i][1]) for i in batch]
        model.recaller.fill(model, idx, recalled, cache, memory.held)
        return gone_on(model, task, cache, idx)

    with reading_memory(model, memory, task.reading):
        return written(tokenizer, task, prompts, go_on)


def cache_of(model, task, T):
    """An empty one for T tokens and an answer, of a call that looks nothing up."""
    cache = Cache(min(T + task.new_tokens, model.config.block_size))
    cache.readers = {}
    return cache


@torch.inference_mode()
def gone_on(model, task, cache, idx):
    """idx (B, T) behind what stands in the cache's front -> new tokens (B, n), the likeliest."""
    writing = Writing(task.new_tokens, 1.0, 1, None, task.end_ids)
    return write(model.newest_logits, cache, idx, writing)[:, idx.size(1):]


def idx_of(model, rows):
    return torch.tensor(rows, device=model.transformer.wte.weight.device)


def written(tokenizer, task, prompts, go_on):
    """prompts, tuples of ids; go_on(numbers of such as are of one length) -> their new tokens (B, n). -> the
    answers to all."""
    rows = {i: row for batch in of_one_length(prompts) for i, row in zip(batch, go_on(batch).tolist())}
    return [tokenizer.decode(before_end(row, task.end_ids)) for _, row in sorted(rows.items())]


def of_one_length(prompts):
    """prompts, tuples of ids -> lists of numbers of those of one length, ROWS_TOGETHER at most.

    None comes twice in a list: prompts that are all the same would be taken for one, whatever their texts.
    """
    groups, again = {}, Counter()
    for i, ids in enumerate(prompts):
        groups.setdefault((len(ids), again[ids]), []).append(i)
        again[ids] += 1
    return [some[first:first + ROWS_TOGETHER] for some in groups.values()
            for first in range(0, len(some), ROWS_TOGETHER)]
