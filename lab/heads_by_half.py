"""
Index heads picked on real paragraphs: on one half of a file's articles, and counted on the questions of the
other half, so that what they find is not a share of the choice itself.

Letters: H heads, Q questions, N texts.
"""
import itertools
from dataclasses import dataclass

import numpy as np

from lab import index_heads, stats
from lab.conditions import reading_memory
from lab.damage import HeldOut
from lab.index_finder import MOST_HEADS, MOST_KEY_HEADS, votes_by_head
from lab.many_texts import Asking, Library, Task, choices, memory_of
from lab.squad import read_articles
from reader import Reading

HALVES = 'first half', 'second half'
ALL = 'all of the file'
GIVEN = 'index_heads as given'
CROSSED = 'the other half'
HELD_OUT = HeldOut(1, 0)  # of a task, of which no more than its choices are wanted


@dataclass(frozen=True)
class Found:
    """
    heads: {what they were picked on: [(layer, head)]}, GIVEN the settings' own. alone: {half: (n_layer,
    n_head)}, the share of its questions that each head finds alone in it. half_of: (Q,) 0 or 1, of each
    question. found: {what the heads were picked on, or 'BM25': (Q,) 0 or 1}, among all N texts, by votes
    alone; in_five: the same of the best five; read: with recall_candidates, of CROSSED and BM25.
    """
    heads: dict
    alone: dict
    texts: int
    half_of: tuple
    found: dict
    in_five: dict
    read: dict


# ---- what is asked ----

def libraries_of(articles):
    """[[Story]] -> (Library of all, of each text its half (N,), [Library of every second article, of the
    others]); every question is asked."""
    numbered = [(number % 2, story) for number, article in enumerate(articles) for story in article]
    halves = [[story for half, story in numbered if half == wanted] for wanted in (0, 1)]
    return (library_of_all([story for _, story in numbered]), np.array([half for half, _ in numbered]),
            [library_of_all(told) for told in halves])


def library_of_all(told):
    asked = [(n, question) for n, story in enumerate(told) for question in story.questions]
    return Library(tuple(story.text for story in told), tuple(question for _, question in asked),
                   np.array([n for n, _ in asked]))


# ---- the search ----

def find(model, tokenizer, s, done=lambda line: None):
    """s: evaluate.py's settings -> Found. done(line) is told of each step. Raises ValueError without a file
    of two articles."""
    asking, given = Asking(s['chat'], s['system'], s['memory_distance'], s['recall_votes']), s['index_heads']
    whole, half_of_text, halves = libraries_of(articles_of(s))
    picked, alone = {GIVEN: given} if given else {}, {}
    for name, library in zip((*HALVES, ALL), (*halves, whole)):
        picked[name], alone[name] = picked_on(model, tokenizer, library, asking)
        done(f'{name}, {len(library.questions)} questions: {picked[name]}')
    half_of = half_of_text[whole.right]
    found, in_five = by_votes(model, tokenizer, whole, half_of, picked, asking)
    read = {}
    if s['recall_candidates'] > 1:
        read[CROSSED] = read_crossed(model, tokenizer, s, whole, half_of, picked, asking)
    scores = [{name: [*map(int, one)] for name, one in some.items()} for some in (found, in_five, read)]
    kept = Found(picked, {name: alone[name] for name in HALVES}, len(whole.texts), tuple(map(int, half_of)),
                 *scores)
    done('\n'.join(lines_of(kept)))
    return kept


def articles_of(s):
    if not s['squad_file']:
        raise ValueError("find is 'index_heads_by_half', which picks on real paragraphs: give squad_file")
    articles = read_articles(s['squad_file'])
    if len(articles) < 2:
        raise ValueError(f"{s['squad_file']} has one article, expected two or more: a half is every second")
    return articles


def picked_on(model, tokenizer, library, asking):
    """-> the heads that greedy picks on a library, and the share that each of the model's finds alone."""
    c = model.config
    heads = tuple(itertools.product(range(c.n_layer), range(c.n_head)))
    votes, _ = votes_by_head(model, tokenizer, library, heads, asking)
    key_heads = [(layer, head // (c.n_head // c.n_kv_head)) for layer, head in heads]
    chosen = index_heads.greedy(votes, library.right, key_heads, MOST_HEADS, MOST_KEY_HEADS)
    alone = index_heads.share_found(votes, library.right).reshape(c.n_layer, c.n_head)
    return tuple(heads[i] for i, _ in chosen), alone


def by_votes(model, tokenizer, whole, half_of, picked, asking):
    """-> found and in_five, see Found; BM25's words stand for its votes."""
    found, in_five = {}, {}
    for name, heads in picked.items():
        votes, _ = votes_by_head(model, tokenizer, whole, heads, asking)
        places = index_heads.places(votes.sum(0), whole.right)
        found[name], in_five[name] = places == 0, places < 5
    for scores in (found, in_five):
        first, second = (scores[name] for name in HALVES)
        scores[CROSSED] = np.where(half_of == 0, second, first)
    task = Task('bm25', whole, len(whole.texts), asking, Reading(), 1, (), HELD_OUT)
    chosen = chosen_of(model, tokenizer, task, range(len(half_of)))
    for scores, name in ((found, 'found'), (in_five, 'found_in_five')):
        scores['BM25'] = np.array([chosen[n][name] for n in range(len(half_of))])
    return found, in_five


def chosen_of(model, tokenizer, task, questions):
    """-> {question: what its choice scores}, of a memory of all texts."""
    numbers = list(range(len(task.library.texts)))
    memory, numbers = memory_of(model, tokenizer, task, numbers)
    with reading_memory(model, memory, task.reading):
        chosen = choices(model, tokenizer, task, np.array(numbers), list(questions))
    return {n: one.scores for n, one in chosen.items()}


def read_crossed(model, tokenizer, s, whole, half_of, picked, asking):
    """Whether each question's text is the one chosen, by heads of the other half and by reading the
    candidates: (Q,)."""
    found = np.zeros(len(half_of), dtype=int)
    for half, name in enumerate(HALVES):
        reading = Reading.of({**s, 'memory_method': 5, 'index_heads': picked[name]})
        task = Task('memory', whole, len(whole.texts), asking, reading, 1, (), HELD_OUT)
        others = np.flatnonzero(half_of != half).tolist()
        chosen = chosen_of(model, tokenizer, task, others)
        found[others] = [chosen[n]['found'] for n in others]
    return found


# ---- what was found ----

def lines_of(found):
    """A line of a table each: what the heads were picked on, what they were asked of, and what they find."""
    half_of, lines = np.array(found.half_of), []
    for name, own in found.found.items():
        for asked, some in ((HALVES[0], half_of == 0), (HALVES[1], half_of == 1), (ALL, half_of >= 0)):
            own_half = name == asked and name in HALVES
            cells = [name + (', which it was picked on' if own_half else ''), asked, counted(own, some),
                     counted(found.in_five[name], some),
                     counted(found.read[name], some) if name in found.read else '']
            lines += [f"| {' | '.join(cells)} |"] * (name not in HALVES or asked != ALL)
    return lines


def counted(values, some):
    of = np.array(values)[some]
    low, high = stats.wilson(int(of.sum()), len(of))
    return f'{of.sum()}/{len(of)} ({low:.2f}, {high:.2f})'


def tests_of(found):
    """Sentences: heads of the other half against BM25 and the heads given, question by question."""
    ours, told = found.found[CROSSED], []
    pairs = [('by votes alone', ours, 'BM25', found.found['BM25'])]
    if CROSSED in found.read:
        pairs.append(('with candidates read', found.read[CROSSED], 'BM25', found.found['BM25']))
    if GIVEN in found.found:
        pairs.append(('by votes alone', ours, GIVEN, found.found[GIVEN]))
    ps = stats.holm([stats.mcnemar(one, other) for _, one, _, other in pairs])
    for (how, one, name, other), p in zip(pairs, ps):
        gained, lost = (sum(a > b for a, b in zip(*both)) for both in ((one, other), (other, one)))
        told.append(f'- Heads of {CROSSED}, {how}, against {name}: {gained} questions against {lost}, exact '
                    f'McNemar p {p:.2g}.')
    return told


WRITTEN = 'init_from', 'chat', 'system', 'memory_distance', 'recall_votes'  # as they were searched with


def config_text(found, s):
    """A file for sample.py: of the heads that were picked on all of the file."""
    crossed, own = (np.mean(found.found[name]) for name in (CROSSED, ALL))
    lines = [f"# Index heads picked by evaluate.py on {s['squad_file']}, {len(found.half_of)} questions, "
             f"{found.texts} texts.",
             f"# They find {own:.3f} of these by votes, a share of the choice itself; picked on one half "
             f"{crossed:.3f} of the other."]
    settings = {**{name: s[name] for name in WRITTEN}, 'memory_method': 5, 'memory_layers': (),
                'index_heads': found.heads[ALL]}
    return '\n'.join([*lines, *(f'{name} = {value!r}' for name, value in settings.items())]) + '\n'


def summary(found, name, picture, command, s):
    """The search as Markdown: the heads of each half, and what they find in the other."""
    heads = '\n'.join(f"- {of}: {', '.join(map(str, some))}." for of, some in found.heads.items())
    lines, tests = '\n'.join(lines_of(found)), '\n'.join(tests_of(found))
    return (f"# {name}\n\n![{name}]({picture})\n\n```\n$ {command}\n```\n\n"
            f"Of each half, every second article, the heads are picked greedily, by its questions on its "
            f"texts alone, up to {MOST_HEADS} with keys of {MOST_KEY_HEADS} key heads:\n\n{heads}\n\n"
            f"Among all {found.texts} texts:\n\n"
            "| heads picked on | questions of | found by votes | in the best five | "
            f"{s['recall_candidates']} candidates read |\n| --- | --- | --- | --- | --- |\n{lines}\n\n"
            "In brackets 95 % Wilson intervals. p is two-sided, and Holm's correction is for all of these:"
            f"\n\n{tests}\n\n## Picked on all of the file, as a config file\n\n"
            f"```python\n{config_text(found, s)}```\n")


def as_numbers(found):
    """What JSON can hold of it."""
    halves = [{'name': name, 'heads': found.heads[name], 'alone': found.alone[name].round(4).tolist()}
              for name in HALVES]
    return {'halves': halves,
            'heads': found.heads, 'texts': found.texts, 'half_of': found.half_of, 'found': found.found,
            'in_five': found.in_five, 'read': found.read}
