"""
Recall of many facts: paragraphs that data/tinyworld's grammar makes up, with names that training never used, and a question about each.

What a point of an experiment can vary beside its memory's settings: how many texts are remembered together, and how far the question
stands from the fact.
"""
import functools
import itertools
import random
import re
import statistics
from collections import namedtuple

import torch

from data.tinyworld import grammar
from lab.measures import answer_probability, damage, is_right, point_seeds, remember, write
from load import attach

Fact = namedtuple('Fact', 'paragraph question answer other')  # other: a wrong answer of the same kind


@functools.cache
def unseen_facts(seed, count):
    """Facts whose made-up names training never used, and of which none says what another's question names."""
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
    return set(re.findall(r'\b[A-Z]\w+|\w+-largest \w+|\d+', text)) - {'The', 'In', 'Visitors', 'Whoever', 'By'}


def groups_of_texts(s):
    """texts_together paragraphs for each memory, in which one alone says what a question names: [(numbers of the facts asked, texts)]."""
    size, groups = s['texts_together'], []
    facts = unseen_facts(s['seed'], s['num_facts'])
    for first in range(0, len(facts), size):
        asked = facts[first:first + size]
        texts, n = [fact.paragraph for fact in asked], 0
        while len(texts) < size:
            text, n = distractor(s['seed'], n), n + 1
            if not any(answers(text, fact) for fact in asked):
                texts.append(text)
        groups.append((range(first, first + len(asked)), texts))
    return groups


@functools.cache
def distractor(seed, n):
    """The n-th paragraph that is about none of the facts."""
    return grammar.topic(random.Random(f'distractor {seed} {n}'), unseen=True)[0]


def answering_sentence(fact):
    """The sentence of the paragraph with the answer; of several, the one that holds most of what the question names.

    It may say "the city" or "she" for its subject.
    """
    sentences = [part for part in re.split(r'(?<=\.) ', fact.paragraph.strip()) if fact.answer.strip() in part]
    return max(sentences, key=lambda part: len(names(fact.question) & names(part)))


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
    fact = unseen_facts(s['seed'], s['num_facts'])[first]
    if s['condition'] == 'unrelated':
        texts = [next(text for n in itertools.count(first) if not answers(text := distractor(s['seed'], n), fact))]
    elif s['condition'] == 'opposite':
        texts = [fact.paragraph.replace(fact.answer.strip(), fact.other.strip())]
    elif s['condition'] != 'memory':
        return None
    return remember(model, tokenizer, s, *([answering_sentence(fact)] if s['sentence_only'] else texts))


def ask(model, tokenizer, s, n):
    """One question -> its scores in [0, 1]. A prompt that is longer than the context is cropped from the left."""
    fact = unseen_facts(s['seed'], s['num_facts'])[n]
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
    about, scores, works, stored = unseen_facts(s['seed'], s['num_facts'])[0].paragraph, [], [], 0
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
