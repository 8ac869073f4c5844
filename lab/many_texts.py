"""
Many texts in one memory: does a question find its own, and is it answered?

The questions are on made-up facts, or on the paragraphs of a file in SQuAD's format. What is asked stays the
same however many texts are remembered beside it.
"""
import math
import random
import statistics
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from core.held import Recent
from core.stored import live_texts
from lab import index_heads
from lab.answers import answers, prefix_of, prompted, remembered, turn_of
from lab.bm25 import bm25_scores
from lab.conditions import reading_memory
from lab.damage import HeldOut, damage
from lab.everyday import FACTS
from lab.facts import unseen_facts
from lab.haystack import with_pass_keys
from lab.made_up import Question, Story, stories
from lab.squad import contains_answer, read_squad
from load import load_memory
from reader import Reading

# of texts that ran again for recall_candidates: a question's candidates are another's as well
BYTES_KEPT = 2**30


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
    the model chooses, or by methods 1 to 4 all texts at once. hay: a memory file that holds some of
    the texts, which then need not run through the model again; '' for none.
    """
    condition: str
    library: Library
    size: int
    asking: Asking
    reading: Reading
    new_tokens: int
    end_ids: tuple
    held_out: HeldOut
    hay: str = ''


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
    of data/tinyworld's grammar, or the everyday facts; world: 'choose' or 'prove'. Raises ValueError."""
    if s['everyday'] and (s['pass_keys'] or s['tinyworld'] or s['squad_file'] or s.get('find')):
        raise ValueError("everyday facts are a library of their own, and no search's: leave everyday out, or "
                         "pass_keys, tinyworld, squad_file and find")
    if s['everyday']:
        return [Story(fact.told, (Question(fact.asked, fact.answers),)) for fact in FACTS]
    count = max(s['texts_together'], s['num_facts'])
    if s['pass_keys']:
        return haystack_of(s, world, count)
    if not s['tinyworld']:
        return stories(world, s['seed'], count)
    facts = unseen_facts(f"{world} {s['seed']}", count)
    return [Story(fact.paragraph.strip(), (Question('', (fact.answer.strip(),), fact.question.strip()),))
            for fact in facts]


def haystack_of(s, world, count):
    """Texts with pass keys, and behind them those of memory_file or, where there is none, made-up ones."""
    there = live_texts(s['memory_file']).values() if s['memory_file'] else ()
    hay = [Story(entry['text'], ()) for entry in there]
    told = stories(world, f"pass keys {s['seed']}", s['num_facts'] if hay else count)
    return with_pass_keys(told, s['num_facts'], s['seed']) + hay


def library_of_settings(s):
    """Of evaluate.py's settings. Raises ValueError where there are fewer texts than are wanted."""
    of_file = s['squad_file'] and not s['everyday']
    told = read_squad(s['squad_file']) if of_file else told_by(s, 'prove')
    if s['texts_together'] > len(told):
        given = s['squad_file'] or s['memory_file'] or 'everyday facts'
        raise ValueError(f"texts_together is {s['texts_together']}, but with {given} there are {len(told)}: "
                         "give no more")
    if s['squad_file'] or s['everyday']:
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


# ---- asking ----

def measure(model, tokenizer, task):
    """-> a record: of each question 'right', and 'found' and 'recalled' where something chooses a text."""
    chosen, texts, stored, damaged = {}, {}, 0, {}
    for numbers, questions in memories_of(task.library, task.size):
        memory, numbers = memory_of(model, tokenizer, task, numbers)
        stored = max(stored, 0 if memory is None else len(memory))
        with reading_memory(model, memory, task.reading):
            damaged = damaged or damage_under(model, tokenizer, task, memory)
            chosen |= choices(model, tokenizer, task, np.array(numbers), questions)
            if memory is not None and task.reading.method != 5:
                pairs = [(task.library.questions[n], ()) for n in questions]
                texts |= dict(zip(questions, prompted(model, tokenizer, task, pairs)))
    asked = [n for n in sorted(chosen) if n not in texts]
    texts |= dict(zip(asked, answers(model, tokenizer, task, [(n, chosen[n].texts) for n in asked])))
    return record_of(task, [chosen[n] for n in sorted(chosen)], [texts[n] for n in sorted(chosen)], stored,
                     damaged)


def record_of(task, chosen, texts, stored, damaged):
    right = [int(contains_answer(text, question.answers))
             for text, question in zip(texts, task.library.questions)]
    samples = {'right': right} | {name: [one.scores[name] for one in chosen] for name in chosen[0].scores}
    numbers = {'stored_tokens': stored, 'recall_seconds': statistics.median(one.seconds for one in chosen)}
    record = {'samples': samples, 'numbers': numbers, 'texts': texts}
    return record | ({'held_out': damaged} if damaged else {})


def memory_of(model, tokenizer, task, numbers):
    """What is read, or chosen from: these texts -> it, and their numbers in its order; of a condition that
    needs none, None."""
    if task.condition != 'memory':
        return None, numbers
    keep, memory, there = 'tokens' if task.reading.method == 5 else 'values', None, []
    if task.hay:
        memory = load_memory(task.hay, '', model, tokenizer)
        memory.home = None  # what follows is not for the disk
        header = tuple(tokenizer.encode(prefix_of(tokenizer, task.asking)))
        if memory.header != header or memory.keep != keep:
            raise ValueError(f"{task.hay} keeps {memory.keep} of texts behind {len(memory.header)} tokens, "
                             f"here {keep} are wanted behind the {len(header)} that a question begins with: "
                             "build it so, by keep, chat, system and memory_prefix")
        own = {task.library.texts[n]: n for n in numbers}
        memory.forget([n for n in memory.held.live.tolist() if memory.texts[n]['text'] not in own])
        there = [own[memory.texts[n]['text']] for n in memory.held.live.tolist()]
    new = [n for n in numbers if n not in set(there)]
    if new:
        hay, memory = memory, remembered(model, tokenizer, task, [task.library.texts[n] for n in new], keep)
        if there:
            memory.merge(hay)
    memory.compact()  # of what lies in memory: a vote costs what is there
    memory.recent = Recent(BYTES_KEPT)
    return memory, new + there


def damage_under(model, tokenizer, task, memory):
    """Held-out perplexity, of the plain model and under a memory that may abstain."""
    if task.condition not in ('plain', 'memory'):
        return {}
    return damage(model, tokenizer, task.held_out, '', task.library.texts[0])


# ---- which text ----

class Choice(NamedTuple):
    """What a question is asked with: texts, () for none; how well they were found; how long that took."""
    texts: tuple = ()
    scores: dict = {}  # noqa: RUF012, never changed
    seconds: float = 0.0


def choices(model, tokenizer, task, numbers, questions):
    """Of these questions on texts of these numbers -> {question: Choice}."""
    if task.condition == 'bm25':
        return chosen_by_bm25(task, numbers, questions)
    if task.condition == 'memory' and task.reading.method == 5:
        return {n: chosen_by_votes(model, tokenizer, task, numbers, n) for n in questions}
    right = task.condition in ('prompt', 'right')
    return {n: Choice((task.library.texts[task.library.right[n]],) if right else ()) for n in questions}


def chosen_by_bm25(task, numbers, questions):
    words = [task.library.questions[n].words for n in questions]
    scores, found = bm25_scores([task.library.texts[n] for n in numbers], words), {}
    for n, own in zip(questions, scores):
        place = int((own >= own[numbers == task.library.right[n]]).sum() - 1)
        found[n] = Choice((task.library.texts[numbers[own.argmax()]],),
                          {'found': int(place == 0), 'found_in_five': int(place < 5)})
    return found


def chosen_by_votes(model, tokenizer, task, numbers, n):
    """What the attached memory's votes say of a question."""
    turn, right = turn_of(tokenizer, task.library.questions[n], task.asking), task.library.right[n]
    idx = torch.tensor([turn.ids], device=model.transformer.wte.weight.device)
    started = time.perf_counter()
    recalled, scores = votes_for(model, idx, turn, int(np.flatnonzero(numbers == right)[0]))
    texts = tuple(task.library.texts[numbers[number]] for number in recalled)
    return Choice(texts, scores, time.perf_counter() - started)


def votes_for(model, idx, turn, right):
    """-> the numbers of what is recalled, and what this says of a question whose text is number `right`."""
    recaller, held, span = model.recaller, model.recaller.memory.held, (turn.start, turn.end)
    votes, voters = recaller.votes(model, idx, held, span)
    numbers, _, evidence = recaller.best(model, idx, held, span, votes[0], voters)
    place = int(index_heads.places(votes.numpy(), np.array([right]))[0])
    least = recaller.reading.recall_threshold
    scores, others = {'found': int(right in numbers), 'found_in_five': int(place < 5)}, votes.numel() > 1
    if least == 0:
        return numbers, scores | {'recalled': 1, 'recalled_without': int(others)}
    scores['evidence'] = evidence()
    if others:
        held = held.without([right])
        votes, _ = recaller.votes(model, idx, held, span)
        scores['evidence_without'] = recaller.best(model, idx, held, span, votes[0], voters)[2]()
    scores |= {'recalled': int(scores['evidence'] >= least),
               'recalled_without': int(scores.get('evidence_without', -math.inf) >= least)}
    return numbers if scores['recalled'] else (), scores
