"""
Many texts in one memory: does a question find its own, and is it answered?

The questions are on made-up facts, or on the paragraphs of a file in SQuAD's format. What is asked stays the
same however many texts are remembered beside it.
"""
import random
import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch

from core.chat import Turn, chat_frame, turn_behind_header
from core.generation import before_end
from lab import index_heads
from lab.bm25 import bm25_scores
from lab.conditions import reading_memory
from lab.damage import HeldOut, damage
from lab.facts import unseen_facts
from lab.made_up import Question, Story, bare, stories
from lab.squad import contains_answer, read_squad
from memory import PersistentMemory
from reader import Reading


@dataclass(frozen=True)
class Asking:
    """How questions reach the model: in its chat template, after a system's turn ('' is the template's own),
    or bare; how many tokens before them the texts seem to stand when they search; and how many texts each
    token and head can vote for."""
    chat: bool = False
    system: str = ''
    distance: int = 512
    recall_votes: int = 40


@dataclass(frozen=True)
class Library:
    """N texts, Q questions each of which one of them answers: `right` (Q,), the numbers of those."""
    texts: tuple
    questions: tuple
    right: np.ndarray


@dataclass(frozen=True)
class Task:
    """
    What a condition is asked: questions on texts, size of them in one memory; answers of up to new_tokens,
    ended by one of end_ids. condition: 'plain', the question alone; 'prompt', the right text before it;
    'bm25', the text that BM25 chooses; 'right', the right text read from memory; 'memory', the text that
    the model chooses.
    """
    condition: str
    library: Library
    size: int
    asking: Asking
    reading: Reading
    new_tokens: int
    end_ids: tuple
    held_out: HeldOut


# ---- what is asked ----

def library_of(told, seed, num_questions):
    """[Story] -> Library: every text is asked about once before one is asked about again."""
    rng, rounds = random.Random(f'questions {seed}'), []
    for n, story in enumerate(told):
        for again, question in enumerate(rng.sample(story.questions, len(story.questions))):
            rounds.append((again, n, question))
    asked = sorted(rounds, key=lambda one: one[:2])[:num_questions]
    return Library(tuple(story.text for story in told), tuple(question for *_, question in asked),
                   np.array([n for _, n, _ in asked]))


def told_by(s, world):
    """-> [Story], as many as evaluate.py's settings want, of made-up English or, for a model that knows none,
    of data/tinyworld's grammar; world: 'choose' or 'prove'."""
    count = max(s['texts_together'], s['num_facts'])
    if not s['tinyworld']:
        return stories(world, s['seed'], count)
    facts = unseen_facts(f"{world} {s['seed']}", count)
    return [Story(fact.paragraph.strip(), (Question('', (fact.answer.strip(),), fact.question.strip()),))
            for fact in facts]


def library_of_settings(s):
    """Of evaluate.py's settings. Raises ValueError where squad_file has fewer texts than are wanted."""
    if not s['squad_file']:
        return library_of(told_by(s, 'prove'), s['seed'], s['num_facts'])
    told = read_squad(s['squad_file'])
    if s['texts_together'] > len(told):
        raise ValueError(f"texts_together is {s['texts_together']}, but {s['squad_file']} has {len(told)} "
                         "paragraphs: give no more")
    random.Random(f"order {s['seed']}").shuffle(told)  # an article's paragraphs would else be neighbours
    return library_of(told, s['seed'], s['num_facts'])


def memories_of(library, size):
    """-> [(numbers of texts, numbers of questions)]: the texts that are asked about, `size` in one memory;
    the last one's place is filled with others."""
    asked = list(dict.fromkeys(library.right.tolist()))
    others = [n for n in range(len(library.texts)) if n not in set(asked)]
    groups = []
    for first in range(0, len(asked), size):
        texts = asked[first:first + size]
        texts += (others + asked[:first])[:size - len(texts)]
        own = set(asked[first:first + size])
        groups.append((texts, [q for q, n in enumerate(library.right.tolist()) if n in own]))
    return groups


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


def text_before(task, scores, number):
    """The text that the condition puts into the prompt of a question; scores: BM25's, (Q, N)."""
    if task.condition == 'prompt':
        return task.library.texts[task.library.right[number]]
    return task.library.texts[int(scores[number].argmax())] if task.condition == 'bm25' else ''


# ---- asking ----

def measure(model, tokenizer, task):
    """-> a record: of each question 'right', and 'found' and 'recalled' where something chooses a text."""
    answered, stored, damaged = {}, 0, {}
    for texts, questions in memories_of(task.library, task.size):
        memory = memory_of(model, tokenizer, task, texts)
        stored = max(stored, 0 if memory is None else len(memory))
        own = np.array(texts)
        scores = bm25_of(task, own, questions) if task.condition == 'bm25' else None
        with reading_memory(model, memory, task.reading):
            damaged = damaged or damage_under(model, tokenizer, task, memory)
            for n in questions:
                answered[n] = ask(model, tokenizer, task, own, scores, n)
    rows = [answered[n] for n in sorted(answered)]
    samples = {name: [row[name] for row in rows] for name in rows[0] if name not in ('seconds', 'text')}
    numbers = {'stored_tokens': stored, 'recall_seconds': statistics.median(row['seconds'] for row in rows)}
    record = {'samples': samples, 'numbers': numbers, 'texts': [row['text'] for row in rows]}
    return record | ({'held_out': damaged} if damaged else {})


def memory_of(model, tokenizer, task, numbers):
    """What the model chooses from: the index heads' keys and the tokens of these texts."""
    if task.condition != 'memory':
        return None
    return remembered(model, tokenizer, task, [task.library.texts[n] for n in numbers])


def remembered(model, tokenizer, task, texts):
    return PersistentMemory.from_texts(model, texts, tokenizer, index_heads=task.reading.index_heads,
                                       keep='tokens', prefix=prefix_of(tokenizer, task.asking),
                                       window_tokens=model.config.block_size)  # whole texts, as in a prompt


def bm25_of(task, numbers, questions):
    """BM25's scores of these texts, (Q, N), 0 or less elsewhere."""
    scores = np.full((len(task.library.questions), len(task.library.texts)), -1.0)
    words = [task.library.questions[n].words for n in questions]
    scores[np.ix_(questions, numbers)] = bm25_scores([task.library.texts[n] for n in numbers], words)
    return scores


def damage_under(model, tokenizer, task, memory):
    """Held-out perplexity, of the plain model and under a memory that may abstain."""
    if task.condition not in ('plain', 'memory'):
        return {}
    return damage(model, tokenizer, task.held_out, '', task.library.texts[0])


def ask(model, tokenizer, task, numbers, scores, n):
    """One question -> its scores."""
    question, right = task.library.questions[n], int(task.library.right[n])
    turn = turn_of(tokenizer, question, task.asking, text_before(task, scores, n))
    idx = torch.tensor([turn.ids], device=model.transformer.wte.weight.device)
    found, started = {}, time.perf_counter()
    if task.condition == 'memory':
        found = votes_for(model, idx, turn, int(np.flatnonzero(numbers == right)[0]))
    seconds = time.perf_counter() - started
    if task.condition == 'bm25':
        place = int((scores[n] >= scores[n, right]).sum() - 1)
        found = {'found': int(place == 0), 'found_in_five': int(place < 5)}
    if task.condition == 'right':
        with reading_memory(model, remembered(model, tokenizer, task, [task.library.texts[right]]),
                            task.reading):
            text = answer(model, tokenizer, task, idx, turn)
    else:
        text = answer(model, tokenizer, task, idx, turn)
    return {'right': int(contains_answer(text, question.answers)), **found, 'seconds': seconds, 'text': text}


def votes_for(model, idx, turn, right):
    """What the attached memory's votes say of a question whose text has the number `right` in it."""
    recaller, span = model.recaller, (turn.start, turn.end)
    votes, _ = recaller.votes(model, idx, recaller.memory.held, span)
    (numbers, _), = recaller.recalled(model, idx, recaller.memory.held, span)
    place = int(index_heads.places(votes.numpy(), np.array([right]))[0])
    falsely = votes.numel() > 1
    if falsely and recaller.reading.recall_threshold > 0:
        (others, _), = recaller.recalled(model, idx, recaller.memory.held.without([right]), span)
        falsely = bool(others)
    return {'found': int(right in numbers if numbers else place == 0), 'found_in_five': int(place < 5),
            'recalled': int(bool(numbers)), 'recalled_without': int(falsely)}


def answer(model, tokenizer, task, idx, turn):
    """The likeliest answer, up to the token that ends it."""
    own = (turn.start, turn.end) if model.recaller is not None else None
    row = model.generate(idx, task.new_tokens, top_k=1, end_ids=task.end_ids, question=own)[0, idx.size(1):]
    return tokenizer.decode(before_end(row.tolist(), task.end_ids))
