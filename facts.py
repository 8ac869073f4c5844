"""
Recall of many facts: paragraphs that data/tinyworld's grammar makes up, with names that training never used, and a question about each.

What a point of an experiment can vary beside its memory's settings: how many texts are remembered together, and how far the question
stands from the fact.
"""
import functools
import random
import re
import statistics
from collections import namedtuple

import torch

from data.tinyworld import grammar
from load import attach
from measures import answer_probability, damage, is_right, point_seeds, remember, write

Fact = namedtuple('Fact', 'paragraph question answer other')  # other: a wrong answer of the same kind


@functools.cache
def unseen_fact(seed, n):
    """The n-th fact of a seed; every made-up name in it is one that training never used."""
    rng = random.Random(f'fact {seed} {n}')
    paragraph, pairs = grammar.topic(rng, unseen=True)
    question, answer = rng.choice(pairs)
    return Fact(paragraph, question, answer, other_answer(rng, question, answer))


def other_answer(rng, question, answer):
    """What the same question has for an answer in another paragraph."""
    def form(question):
        return re.sub(r'[A-Z]\w+|\w+-largest \w+|\d+', '_', question)

    while True:
        for asked, other in grammar.topic(rng, unseen=True)[1]:
            if form(asked) == form(question) and other != answer:
                return other


def names(text):
    return set(re.findall(r'\b[A-Z]\w+|\w+-largest \w+|\d+', text)) - {'The', 'In', 'Visitors', 'Whoever', 'By'}


def groups_of_texts(s):
    """texts_together paragraphs for each memory, in which one alone says what a question names: [(numbers of the facts asked, texts)]."""
    size, groups = s['texts_together'], []
    for first in range(0, s['num_facts'], size):
        asked = [unseen_fact(s['seed'], n) for n in range(first, min(first + size, s['num_facts']))]
        texts, n = [fact.paragraph for fact in asked], s['num_facts']
        while len(texts) < size:
            text, n = unseen_paragraph(s['seed'], n), n + 1
            if not any(names(fact.question) <= names(text) for fact in asked):
                texts.append(text)
        groups.append((range(first, first + len(asked)), texts))
    return groups


@functools.cache
def unseen_paragraph(seed, n):
    return grammar.topic(random.Random(f'fact {seed} {n}'), unseen=True)[0]


def answering_sentence(fact):
    """The one sentence of the paragraph that holds the answer."""
    return next(part for part in re.split(r'(?<=\.) ', fact.paragraph.strip()) if fact.answer.strip() in part)


def filler(tokenizer, s, n):
    """Sentences of opinion, as many as fit into `distance` tokens: what stands between a fact and its question."""
    rng, ids = random.Random(f"filler {s['seed']} {n}"), []
    while True:
        line = grammar.opinion(rng)
        for sentence in re.findall(r'\s.+?[.!](?=\s|$)', line):
            more = tokenizer.encode(sentence)
            if len(ids) + len(more) > s['distance']:
                return tokenizer.decode(ids) if ids else ''
            ids += more


def facts_memory(model, tokenizer, s, first, texts):
    """What a point's condition remembers for the facts from `first` on, or None."""
    fact = unseen_fact(s['seed'], first)
    if s['condition'] == 'unrelated':
        texts = [unseen_fact(s['seed'], first + s['num_facts']).paragraph]
    elif s['condition'] == 'opposite':
        texts = [fact.paragraph.replace(fact.answer, fact.other)]
    elif s['condition'] != 'memory':
        return None
    return remember(model, tokenizer, s, *([answering_sentence(fact)] if s['sentence_only'] else texts))


def ask(model, tokenizer, s, n):
    """One question -> its scores in [0, 1]. A prompt that is longer than the context is cropped from the left."""
    fact = unseen_fact(s['seed'], n)
    text = fact.paragraph if s['condition'] == 'prompt' else ''
    ids, answer = tokenizer.encode(text + filler(tokenizer, s, n) + fact.question), tokenizer.encode(fact.answer)
    room = model.config.block_size - len(answer) - 1
    idx = torch.tensor([ids[-room:]], device=model.transformer.wte.weight.device)
    rows, work = write(model, idx, len(answer) + 1, s, [seed + n for seed in point_seeds(s)])
    greedy = model.generate(idx, len(answer) + 1, top_k=1)[0, idx.size(1):].tolist()
    texts = [tokenizer.decode(row) for row in rows]
    scores = {'right': statistics.mean(is_right(text, fact.answer) for text in texts),
              'greedy': int(is_right(tokenizer.decode(greedy), fact.answer)), 'probability': answer_probability(model, idx, answer),
              'other_right': statistics.mean(is_right(text, fact.other) for text in texts)}
    return scores, work


def facts(model, tokenizer, s):
    """The share of right answers over num_facts questions, each about a paragraph of its own."""
    about, scores, works, stored = unseen_fact(s['seed'], 0).paragraph, [], [], 0
    try:
        for asked, texts in groups_of_texts({**s, 'texts_together': s['texts_together'] if s['condition'] == 'memory' else 1}):
            memory = facts_memory(model, tokenizer, s, asked[0], texts)
            if memory is not None:
                attach(model, memory, s)
                stored += len(memory) * len(asked)
            if asked[0] == 0:
                held_out = damage(model, tokenizer, s, about if s['condition'] == 'prompt' else '', about)
            for n in asked:
                one, work = ask(model, tokenizer, s, n)
                scores.append(one)
                works.append(work)
            model.detach_memory()
    finally:
        model.detach_memory()
    samples = {name: [one[name] for one in scores] for name in scores[0]}
    return {'samples': samples, 'numbers': {'stored_tokens': stored / len(scores)}, 'held_out': held_out, 'work': mean_work(works)}


def mean_work(works):
    """Of questions of nearly one length."""
    def mean(name):
        return {layer: statistics.mean(work[name][layer] for work in works) for layer in works[0][name]}
    return {name: mean(name) for name in ('searches_per_step', 'picks_per_step')} | {
        'tokens_per_second': statistics.median(work['tokens_per_second'] for work in works)}
