"""
Answers to questions, each with a text, in its prompt or read from memory. Those whose prompts are of one
length are written side by side, and what was asked before of the same text is not written again.
"""
import functools
from collections import Counter

import torch

from core.cache import Cache
from core.chat import Turn, chat_frame, turn_behind_header
from core.generation import Writing, before_end, write
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
    """What the model chooses from: the index heads' keys and the tokens of these texts; with keep 'values'
    all that it reads of them."""
    heads = task.reading.index_heads if task.reading.method == 5 else ()
    layers = task.reading.layers if keep == 'values' else ()
    return PersistentMemory.from_texts(model, texts, tokenizer, layers, heads, keep,
                                       prefix=prefix_of(tokenizer, task.asking),
                                       window_tokens=model.config.block_size)  # whole texts, as in a prompt


# ---- answers ----

@functools.lru_cache(4)
def known(fingerprint, dtype, chat, system, new_tokens, end_ids):
    """Answers by now: {(question, text, how it is read): the answer}. How () is in the prompt."""
    return {}


def answers(model, tokenizer, task, asked):
    """asked [(number of a question, the text that it is asked with, '' for none)] -> texts, the likeliest
    answers up to the token that ends each.

    Texts are read from memory under the conditions that read, and stand in the prompt under the others.
    """
    before = known(model.fingerprint(), model.transformer.wte.weight.dtype, task.asking.chat,
                   task.asking.system, task.new_tokens, task.end_ids)
    reading, reads = task.reading, task.condition in ('memory', 'right')
    way = (reading.layers, reading.positions, reading.distance) if reads else ()
    wanted = [(task.library.questions[n], text, way if text else ()) for n, text in asked]
    for way in {key[2] for key in wanted}:
        new = list(dict.fromkeys(key for key in wanted if key[2] == way and key not in before))
        pairs = [key[:2] for key in new]
        before.update(zip(new, (read if way else prompted)(model, tokenizer, task, pairs)))
    return [before[key] for key in wanted]


def prompted(model, tokenizer, task, pairs):
    """pairs [(question, the text before it)] -> answers; of the attached memory where there is one."""
    turns = [turn_of(tokenizer, question, task.asking, text) for question, text in pairs]

    def go_on(batch, idx):
        return model.generate(idx, task.new_tokens, top_k=1, end_ids=task.end_ids)
    return written(model, tokenizer, task, turns, go_on)


def read(model, tokenizer, task, pairs):
    """As prompted, where method 5 reads just this text."""
    if not pairs:
        return []
    numbers = {text: n for n, text in enumerate(dict.fromkeys(text for _, text in pairs))}
    memory = remembered(model, tokenizer, task, list(numbers), 'values')
    turns = [turn_of(tokenizer, question, task.asking) for question, _ in pairs]

    @torch.inference_mode()
    def go_on(batch, idx):
        cache = Cache(min(idx.size(1) + task.new_tokens, model.config.block_size))
        cache.readers = {}
        model.recaller.fill(model, idx, [(numbers[pairs[i][1]],) for i in batch], cache, memory.held)
        return write(model.newest_logits, cache, idx, Writing(task.new_tokens, 1.0, 1, None, task.end_ids))

    with reading_memory(model, memory, task.reading):
        return written(model, tokenizer, task, turns, go_on)


def written(model, tokenizer, task, turns, go_on):
    """go_on(numbers of prompts of one length, idx (B, T)) -> (B, T + n). -> the answers to all turns."""
    texts, device = {}, model.transformer.wte.weight.device
    for batch in of_one_length([tuple(turn.ids) for turn in turns]):
        idx = torch.tensor([turns[i].ids for i in batch], device=device)
        for i, row in zip(batch, go_on(batch, idx)[:, idx.size(1):].tolist()):
            texts[i] = tokenizer.decode(before_end(row, task.end_ids))
    return [texts[i] for i in range(len(turns))]


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
