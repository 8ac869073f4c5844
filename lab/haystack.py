"""
Pass keys hidden in other text: how much of it may a memory hold, for a key still to be found and said?

After Mohtashami and Jaggi (2023), with several keys in one haystack (RULER, Hsieh et al. 2024): each is of a
thing of its own, and a question asks for one. A key stands at one of DEPTHS places of its text: between which
other texts that lies plays no part, since each text runs through the model by itself.
"""
import itertools
import random

from lab.facts import sentences
from lab.made_up import Question, Story

DEPTHS = 5
COLOURS = ('amber', 'blue', 'brown', 'copper', 'crimson', 'golden', 'green', 'grey', 'ivory', 'orange',
           'pink', 'purple', 'red', 'silver', 'violet', 'white', 'yellow')
THINGS = ('archive', 'barn', 'boathouse', 'cabin', 'cellar', 'chapel', 'depot', 'garage', 'gate', 'hangar',
          'kitchen', 'library', 'locker', 'mill', 'observatory', 'pavilion', 'safe', 'shed', 'tower', 'vault')


def with_pass_keys(told, count, seed):
    """[Story] -> the same; the first `count` hold a pass key each, which is the one thing they are asked for.

    Raises ValueError for more than there are things.
    """
    rng = random.Random(f'pass keys {seed}')
    things = [f'{colour} {thing}' for colour, thing in itertools.product(COLOURS, THINGS)]
    if count > len(things):
        raise ValueError(f"num_facts is {count}, but there are pass keys of {len(things)} things: "
                         "ask for fewer")
    keys = zip(told[:count], rng.sample(things, count), rng.sample(range(10_000, 100_000), count))
    asked = [hidden(story.text, thing, key, depth_of(n)) for n, (story, thing, key) in enumerate(keys)]
    return asked + [Story(story.text, ()) for story in told[count:]]


def depth_of(n):
    """Where in its text the n-th key stands, 0 is in front, 1 behind."""
    return n % DEPTHS / (DEPTHS - 1)


def hidden(text, thing, key, depth):
    parts, says = sentences(text), f'The pass key of the {thing} is'
    parts.insert(round(depth * len(parts)), f'{says} {key}.')
    return Story(' '.join(parts), (Question(f'What is the pass key of the {thing}?', (str(key),), says),))
