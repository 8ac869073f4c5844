"""
A long talk in which facts are told, and asked about again many turns later: what does the model still know?

The talk is played once, with the memory, by talk/talk.py as a user would have it, and kept in out_dir, so
that who stops it goes on where it was. Then each question is asked at its place in it, under each condition.
"""
import dataclasses
import hashlib
import json
import os
import random
import re
import time
from dataclasses import dataclass
from typing import NamedTuple

from tqdm import tqdm

from lab.everyday import FACTS, SMALL_TALK, Fact
from reader import Reading
from talk.talk import Style, Talk, open_memory

TURNS_A_FACT = 5  # one tells it, one asks, three are small talk
GAPS = 10, 150  # turns from a fact to its question


class Line(NamedTuple):
    """What the user says in a turn; of a question the fact that it asks for, and how many turns ago that was
    told."""
    words: str
    fact: Fact | None = None
    gap: int = 0


def lines_of(num_facts, seed):
    """-> [Line], one a turn."""
    rng = random.Random(f'talk {seed}')
    lines, small = [None] * (num_facts * TURNS_A_FACT), rng.sample(SMALL_TALK, len(SMALL_TALK))
    gaps = range(GAPS[0], min(GAPS[1], len(lines) - 1) + 1)
    for fact in FACTS[:num_facts]:
        places = [(at, gap) for gap in rng.sample(gaps, len(gaps)) for at in range(len(lines) - gap)
                  if lines[at] is None and lines[at + gap] is None]
        gap = places[0][1]
        at = rng.choice([at for at, other in places if other == gap])
        lines[at], lines[at + gap] = Line(fact.told), Line(fact.asked, fact, gap)
    return [line or Line(small[n % len(small)]) for n, line in enumerate(lines)]


@dataclass(frozen=True)
class Task:
    """
    What a condition is asked: questions on num_facts, in a talk that `seed` orders, which is kept in
    `folder`; how its replies are written, and a memory read. condition: 'memory', the talk as it is; without
    it 'plain', the last exchanges; 'whole', all of them; 'prompt', the last and the fact in the question's
    turn; 'alone', that turn alone.
    """
    condition: str
    num_facts: int
    seed: int
    folder: str
    style: Style
    reading: Reading

    def begin(self, model, tokenizer, folder=''):
        memory = open_memory(folder, model, tokenizer, self.reading.index_heads)
        return Talk(model, tokenizer, memory, self.style, self.reading)


def measure(model, tokenizer, task):
    """-> a record: of each question 'right', the 'seconds' of processor time to the first token, and where it
    stood; under 'memory' also whether its fact was 'found'."""
    lines, rows, texts = lines_of(task.num_facts, task.seed), [], []
    history = played(model, tokenizer, task, lines)
    talk = task.begin(model, tokenizer)
    for turn, (line, said) in enumerate(zip(lines, history)):
        if line.fact:
            row, text = ask(talk, task, line, history[:turn])
            rows.append({**row, 'turn': turn, 'gap': line.gap})
            texts.append(text)
        if task.condition == 'memory':
            talk.remember_exchange(*said)
    samples = {name: [row[name] for row in rows] for name in rows[0]}
    return {'samples': samples, 'numbers': {'turns': len(lines)}, 'texts': texts}


def played(model, tokenizer, task, lines):
    """-> [(words, reply)], the talk with its memory, as far as it is kept already not played again."""
    name = json.dumps([model.fingerprint(), lines, repr(task.style), repr(task.reading)])
    folder = os.path.join(task.folder, f'talk-{hashlib.sha256(name.encode()).hexdigest()[:16]}')
    talk = task.begin(model, tokenizer, folder)
    for line in tqdm(lines[len(talk.exchanges()):], desc='turns of the talk'):
        talk.exchange(line.words)
    return talk.exchanges()


def ask(talk, task, line, history):
    """A question at its place, under the condition -> its scores, and the answer."""
    style, words, before, first = task.style, line.words, history, []
    if task.condition in ('prompt', 'alone'):
        words = f'{line.fact.told}\n{words}'
    if task.condition == 'whole':
        style = dataclasses.replace(style, context_turns=len(history))
    if task.condition == 'alone':
        before = ()
    started = time.process_time()
    reply = talk.reply(words, before, lambda piece: first.append(time.process_time()),
                       plain=task.condition != 'memory', style=style)
    seconds = (first or [time.process_time()])[0] - started
    row = {'right': int(is_right(reply.text, line.fact)), 'seconds': seconds,
           'prompt_tokens': len(reply.turn.ids)}
    if task.condition == 'memory':
        row['found'] = int(any(entry['text'] == line.fact.told for _, entry, _ in reply.drew_on()))
    return row, reply.text


def is_right(text, fact):
    return any(re.search(rf'\b{re.escape(answer)}', text.lower()) for answer in fact.answers)
