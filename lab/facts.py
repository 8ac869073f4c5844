"""
Recall of many facts: paragraphs that data/tinyworld's grammar makes up, with names that training never used,
and a question about each.

What a point of an experiment can vary beside its memory's settings: how many texts are remembered together,
and how far the question stands from the fact.
"""
import dataclasses
import functools
import itertools
import random
import re
import statistics
from dataclasses import dataclass

import torch

from data.tinyworld import grammar
from lab.conditions import reading_memory, remember
from lab.damage import HeldOut, damage
from lab.scores import answer_probability, is_right
from lab.writing import Drawing, write
from reader import Reading


@dataclass(frozen=True)
class Fact:
    paragraph: str
    question: str
    answer: str
    other: str  # a wrong answer of the same kind


@dataclass(frozen=True)
class Questions:
    """
    num_facts questions, drawn with `seed`, under a condition: how it remembers (texts_together paragraphs a
    memory, or of each the answering sentence_only), how far from the fact it asks (distance tokens), and how
    answers are drawn.
    """
    condition: str
    seed: int
    num_facts: int
    drawing: Drawing
    held_out: HeldOut
    texts_together: int = 1
    sentence_only: bool = False
    distance: int = 0
    bookkeeping_tokens: int = 1
    reading: Reading = Reading()

    @property
    def facts(self):
        return unseen_facts(self.seed, self.num_facts)


# ---- what is asked ----

@functools.cache
def unseen_facts(seed, count):
    """Facts with made-up names that training never used; none says what another's question names."""
    facts, n = [], 0
    while len(facts) < count:
        rng = random.Random(f'fact {seed} {n}')
        paragraph, pairs = grammar.topic(rng, unseen=True)
        question, answer = rng.choice(pairs)
        fact, n = Fact(paragraph, question, answer, other_answer(rng, question, answer)), n + 1
        if not any(answers(fact.paragraph, one) or answers(one.paragraph, fact) for one in facts):
            facts.append(fact)
    return facts


def answers(text, fact):
    """Whether a text holds all that the fact's question names."""
    return names(fact.question) <= names(text)


def other_answer(rng, question, answer):
    """What the same question has for an answer in another paragraph."""
    def form(question):
        return re.sub(r'[A-Z]\w+|\w+-largest \w+|\d+', '_', question)

    while True:
        for asked, other in grammar.topic(rng, unseen=True)[1]:
            if form(asked) == form(question) and other != answer:
                return other


def names(text):
    found = set(re.findall(r'\b[A-Z]\w+|\w+-largest \w+|\d+', text))
    return found - {'The', 'In', 'Visitors', 'Whoever', 'By'}


def answering_sentence(fact):
    """The paragraph's sentence with the answer; of several, the one with most of what the question names.

    It may say "the city" or "she" for its subject.
    """
    candidates = [part for part in sentences(fact.paragraph) if fact.answer.strip() in part]
    return max(candidates, key=lambda part: len(names(fact.question) & names(part)))


def sentences(paragraph):
    return re.split(r'(?<=\.) ', paragraph.strip())


def filler(tokenizer, questions, n):
    """What stands between a fact and its question: sentences of opinion, up to `distance` tokens."""
    rng, ids = random.Random(f"filler {questions.seed} {n}"), []
    while True:
        line = grammar.opinion(rng)
        for sentence in re.findall(r'\s.+?[.!](?=\s|$)', line):
            more = tokenizer.encode(sentence)
            if len(ids) + len(more) > questions.distance:
                return tokenizer.decode(ids) if ids else ''
            ids += more


# ---- what is remembered ----

def groups_of_texts(questions):
    """texts_together paragraphs for each memory, in which one alone says what a question names.

    -> [(numbers of the facts asked, texts)]. Every condition but 'memory' has one text, and one fact, at a
    time.
    """
    size = questions.texts_together if questions.condition == 'memory' else 1
    facts, groups = questions.facts, []
    for first in range(0, len(facts), size):
        asked = facts[first:first + size]
        texts = [fact.paragraph for fact in asked]
        texts += itertools.islice(distractors(questions.seed, asked), size - len(texts))
        groups.append((range(first, first + len(asked)), texts))
    return groups


def distractors(seed, facts, first=0):
    """Paragraphs that answer none of the facts' questions, from the one numbered `first` on."""
    return (text for text in (distractor(seed, n) for n in itertools.count(first))
            if not any(answers(text, fact) for fact in facts))


@functools.cache
def distractor(seed, n):
    """The n-th paragraph that is about none of the facts."""
    return grammar.topic(random.Random(f'distractor {seed} {n}'), unseen=True)[0]


def remembered_texts(questions, first, texts):
    """What the condition remembers of a group's `texts`, or in their place, for the fact number `first`."""
    fact = questions.facts[first]
    if questions.condition == 'unrelated':
        text = next(distractors(questions.seed, [fact], first))
        return [sentences(text)[0] if questions.sentence_only else text]
    if questions.condition not in ('memory', 'opposite'):
        return []
    if questions.sentence_only:
        texts = [answering_sentence(fact)]
    if questions.condition == 'memory':
        return texts
    return [text.replace(fact.answer.strip(), fact.other.strip()) for text in texts]


def memory_of(model, tokenizer, questions, first, texts):
    texts = remembered_texts(questions, first, texts)
    if not texts:
        return None
    return remember(model, tokenizer, texts, questions.reading, questions.bookkeeping_tokens)


# ---- asking ----

def recall_of_facts(model, tokenizer, questions):
    """The share of right answers over num_facts questions, each about a paragraph of its own."""
    answered, stored, held_out = [], 0, {}
    for asked, texts in groups_of_texts(questions):
        memory = memory_of(model, tokenizer, questions, asked[0], texts)
        stored += 0 if memory is None else len(memory) * len(asked)
        with reading_memory(model, memory, questions.reading):
            held_out = held_out or damage_of_the_first(model, tokenizer, questions)
            answered += [ask(model, tokenizer, questions, n) for n in asked]
    scores, works = zip(*answered)
    samples = {name: [one[name] for one in scores] for name in scores[0]}
    return {'samples': samples, 'numbers': {'stored_tokens': stored / len(scores)}, 'held_out': held_out,
            'work': mean_work(works)}


def damage_of_the_first(model, tokenizer, questions):
    """Of the first memory alone: all are alike, and one perplexity costs as much as many questions."""
    about = questions.facts[0].paragraph
    before = about if questions.condition == 'prompt' else ''
    return damage(model, tokenizer, questions.held_out, before, about)


def ask(model, tokenizer, questions, n):
    """One question -> its scores in [0, 1], and the work of the drawn answers."""
    fact = questions.facts[n]
    answer = tokenizer.encode(fact.answer)
    idx = prompt_of(model, tokenizer, questions, n, len(answer) + 1)
    drawing = dataclasses.replace(questions.drawing, seeds=seeds_of_fact(questions.drawing.seeds, n))
    rows, work = write(model, idx, len(answer) + 1, drawing)
    texts = [tokenizer.decode(row) for row in rows]
    greedy = model.generate(idx, len(answer) + 1, top_k=1)[0, idx.size(1):].tolist()
    scores = {'right': statistics.mean(is_right(text, fact.answer) for text in texts),
              'greedy': int(is_right(tokenizer.decode(greedy), fact.answer)),
              'probability': answer_probability(model, idx, answer),
              'other_right': statistics.mean(is_right(text, fact.other) for text in texts)}
    return scores, work


def prompt_of(model, tokenizer, questions, n, new_tokens):
    """The n-th question as the condition asks it, (1, T), cropped from the left to fit with new_tokens."""
    fact = questions.facts[n]
    before = fact.paragraph if questions.condition == 'prompt' else ''
    ids = tokenizer.encode(before + filler(tokenizer, questions, n) + fact.question)
    room = model.config.block_size - new_tokens
    return torch.tensor([ids[-room:]], device=model.transformer.wte.weight.device)


def seeds_of_fact(seeds, n):
    """Other draws for each question; a generator takes 32 bits of a seed."""
    return tuple((seed + n) % 2**32 for seed in seeds)


def mean_work(works):
    """Of questions of nearly one length."""
    def mean(name):
        return {layer: statistics.mean(work[name][layer] for work in works) for layer in works[0][name]}
    return {name: mean(name) for name in ('searches_per_step', 'picks_per_step')} | {
        'tokens_per_second': statistics.median(work['tokens_per_second'] for work in works)}
