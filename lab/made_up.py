"""
Made-up people, places and works in plain English, with questions that only their texts can answer.

Many texts tell the same kinds of things in the same few forms, so that names alone tell them apart. What is
made up depends on the world (worlds.py) and the seed alone, and no name of a subject comes twice.
"""
import random
from dataclasses import dataclass

from lab.worlds import WORLDS

FIRST_YEAR, LAST_YEAR = 1790, 1989
LEAST_TOLD = 4  # relations of a text: with these it has 40 tokens or more
MOST_DRAWS = 1000  # of a name that is new


@dataclass(frozen=True)
class Question:
    words: str  # as a person asks
    answers: tuple  # the right ones, texts
    begins: str = ''  # a sentence that the answer ends, for models that answer no questions; '' is none


@dataclass(frozen=True)
class Story:
    text: str  # a paragraph of about 40 to 120 tokens
    questions: tuple  # one for each thing that it tells


def stories(world, seed, count):
    """-> `count` stories of a world by its name, always the same for a seed.

    Raises ValueError where the world's syllables make too few names.
    """
    rng, names, kinds = random.Random(f'{world} {seed}'), Names(world), WORLDS[world]['kinds']
    return [story(rng, names, kinds[n % len(kinds)]) for n in range(count)]


def story(rng, names, kind):
    """An opening sentence, then most of what the kind tells, in any order."""
    name, (subject, possessive) = names.new(rng, kind.name), rng.choice(kind.called)
    told = rng.sample(kind.relations, rng.randint(LEAST_TOLD, len(kind.relations)))
    sentences, questions = [rng.choice(kind.first).format(S=name)], []
    for relation in told:
        value = value_of(rng, names, relation.values)
        named = rng.random() < 0.25  # else "he": what a question names need not stand beside its answer
        S, P = (name, f"{name}'s") if named else (subject, possessive)
        sentences.append(rng.choice(relation.says).format(S=S, P=P, value=value))
        asked = rng.choice(relation.asks).format(name=name)
        questions.append(Question(asked, (value,), relation.begins.format(name=name)))
    return Story(' '.join(sentences), tuple(questions))


def value_of(rng, names, values):
    if isinstance(values, tuple):
        return rng.choice(values)
    if values == 'year':
        return str(rng.randint(FIRST_YEAR, LAST_YEAR))
    return str(rng.randint(120, 9800)) if values == 'number' else names.new(rng, values)


class Names:
    """A world's names, put together from its syllables, each new."""

    def __init__(self, world):
        self.syllables, self.titles = WORLDS[world]['syllables'], WORLDS[world]['titles']
        self.taken = set()

    def new(self, rng, kind):
        """kind: 'person', a given name, which may come again, and one that does not; 'place'; 'work', a title
        with a made-up place."""
        if kind == 'person':
            return f"{self.drawn(rng, 'given')} {self.unused(rng, 'person')}"
        return f"{rng.choice(self.titles)} {self.unused(rng, 'place')}" if kind == 'work' \
            else self.unused(rng, kind)

    def unused(self, rng, end):
        for _ in range(MOST_DRAWS):
            word = self.drawn(rng, end)
            if word not in self.taken:
                self.taken.add(word)
                return word
        raise ValueError(f"the made-up names run out after {len(self.taken)}: ask for fewer texts")

    def drawn(self, rng, end):
        """A begin, none to two middles, and an end of this sort."""
        middles = rng.choices(self.syllables['middle'], k=rng.randint(0, 2))
        return rng.choice(self.syllables['begin']) + ''.join(middles) + rng.choice(self.syllables[end])


def bare(question, before=''):
    """A question as a model is asked it that knows no chat -> what stands in front of it, `before` included,
    its own words, what stands behind."""
    if question.begins:
        return f'{before}\n', question.begins, ''
    return f'{before}\nQuestion:', f' {question.words}', '\nAnswer:'
