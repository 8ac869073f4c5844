"""
Which layers must read a recalled text? First all do; then, again and again, that group of neighbours stops
without which the answers stay likeliest. Made-up facts choose, facts of another world prove the choice.

Q questions, each with the text that answers it, of which the memory keeps all layers.
"""
import dataclasses
import math
from dataclasses import dataclass

import torch

from core.cache import Cache
from core.rows import batches_of_like_length
from lab.answers import prefix_of, turn_of
from lab.many_texts import Asking, library_of, told_by
from memory import PersistentMemory
from reader import Reading
from recall import Recaller

MOST_GROUPS = 10  # of layers: a search takes the square of their number
KEPT = 0.99  # of what reading with all layers adds to log p


# ---- what layers are worth ----

class Asked:
    """Questions with their answers behind them, and a memory of their texts."""

    def __init__(self, model, tokenizer, library, asking, reading):
        self.model, self.reading, self.right = model, reading, library.right.tolist()
        self.memory = PersistentMemory.from_texts(model, library.texts, tokenizer,
                                                  prefix=prefix_of(tokenizer, asking),
                                                  window_tokens=model.config.block_size)  # whole texts
        space = '' if asking.chat else ' '
        self.answers = [torch.tensor(tokenizer.encode(space + one.answers[0])) for one in library.questions]
        self.rows = [torch.cat((torch.tensor(turn_of(tokenizer, one, asking).ids), answer))
                     for one, answer in zip(library.questions, self.answers)]

    def numbers(self, layers):
        """Where these layers read, () is none: the answers' mean log p, in nats, and the share of them that
        the model writes when it takes the likeliest tokens."""
        recaller = Recaller(self.memory, dataclasses.replace(self.reading, layers=layers),
                            self.model.config, self.model.rotary)
        texts, scores = [(n,) if layers else () for n in self.right], []
        for batch in batches_of_like_length([len(row) for row in self.rows]):
            scores += self.scores(recaller, batch, [texts[i] for i in batch])
        log_p, written = zip(*scores)
        return {'layers': layers, 'log_p': math.fsum(log_p) / len(scores),
                'right': sum(written) / len(scores)}

    @torch.inference_mode()
    def scores(self, recaller, batch, texts):
        """Of the questions of these numbers, each after `texts` -> [(log p of the answer, whether each of its
        tokens is the likeliest)]."""
        device = self.model.transformer.wte.weight.device
        idx = torch.nn.utils.rnn.pad_sequence([self.rows[i] for i in batch], batch_first=True).to(device)
        cache = Cache(idx.size(1))
        cache.readers = {}
        header = recaller.fill(self.model, idx, texts, cache, self.memory.held).size(1)
        x = self.model.hidden(idx[:, header:], cache)
        counts, wanted = [len(self.answers[i]) for i in batch], torch.cat([self.answers[i] for i in batch])
        before = torch.cat([x[b, len(self.rows[i]) - n - header - 1:len(self.rows[i]) - header - 1]
                            for b, (i, n) in enumerate(zip(batch, counts))])  # (tokens of all answers, C)
        log_p = self.model.lm_head(before).float().log_softmax(-1).cpu()
        own, likeliest = log_p.gather(-1, wanted[:, None])[:, 0], log_p.argmax(-1) == wanted
        return [(one.sum().item(), bool(all_of.all()))
                for one, all_of in zip(own.split(counts), likeliest.split(counts))]


# ---- the search ----

def groups_of(n_layer):
    """The layers, neighbours together, in MOST_GROUPS at most -> [(layer, ...), ...]."""
    size = math.ceil(n_layer / MOST_GROUPS)
    return [tuple(range(first, min(first + size, n_layer))) for first in range(0, n_layer, size)]


def fewer_and_fewer(groups, numbers_of):
    """numbers_of(layers) -> what they are worth. Yields it of all groups, then of one less each time, that
    without which log p stays highest, to none."""
    yield numbers_of(joined(groups))
    while groups:
        tried = [[group for group in groups if group != gone] for gone in groups]
        worth = [numbers_of(joined(left)) for left in tried]
        best = max(range(len(tried)), key=lambda i: worth[i]['log_p'])
        groups = tried[best]
        yield worth[best]


def joined(groups):
    return tuple(layer for group in groups for layer in group)


@dataclass(frozen=True)
class Found:
    """layers: chosen. n_layer: of the model. steps: of each set tried last, all layers first and none last,
    its numbers on the facts that chose; fresh: the same on those that did not."""
    layers: tuple
    n_layer: int
    steps: tuple
    fresh: tuple


def find(model, tokenizer, s, done=lambda line: None):
    """s: evaluate.py's settings -> Found. done(line) is told of each step."""
    asking, n_layer = Asking(s['chat'], s['system'], s['memory_distance']), model.config.n_layer
    reading, steps, fresh = Reading.of(s | {'memory_method': 5}), [], []
    choose, prove = (Asked(model, tokenizer, library_of(told_by(s, world)[:s['num_facts']], s['seed'],
                                                        s['num_facts']), asking, reading)
                     for world in ('choose', 'prove'))
    for step in fewer_and_fewer(groups_of(n_layer), choose.numbers):
        steps.append(step)
        fresh.append(prove.numbers(step['layers']))
        done(f"{len(step['layers'])} layers: {told(step)}; fresh facts: {told(fresh[-1])}")
    return Found(fewest(steps), n_layer, tuple(steps), tuple(fresh))


def fewest(steps):
    """The fewest layers that keep nearly all that reading does for log p; steps from all layers to none."""
    every, none = steps[0]['log_p'], steps[-1]['log_p']
    enough = [step['layers'] for step in steps[:-1] if step['log_p'] - none >= KEPT * (every - none)]
    return min(enough, key=len, default=steps[0]['layers'])


def told(step):
    return f"log p {step['log_p']:.3f}, {step['right']:.3f} right"


# ---- what was found ----

WRITTEN = 'init_from', 'chat', 'system', 'memory_positions', 'memory_distance', 'index_heads', 'recall_votes'


def config_text(found, s):
    """A file for sample.py."""
    at = next(i for i, step in enumerate(found.steps) if step['layers'] == found.layers)
    lines = [f"# {len(found.layers)} of {found.n_layer} layers read a recalled text, found by evaluate.py on "
             f"{s['num_facts']} made-up facts.",
             f"# {told(found.steps[at])} (all layers: {told(found.steps[0])})",
             f"# on fresh facts {told(found.fresh[at])} (all layers: {told(found.fresh[0])})"]
    layers = found.layers if at else ()  # all
    settings = {**{name: s[name] for name in WRITTEN}, 'memory_method': 5, 'memory_layers': layers}
    return '\n'.join([*lines, *(f'{name} = {value!r}' for name, value in settings.items())]) + '\n'


def summary(found, name, picture, command, s):
    """The search as Markdown: each step, and what was chosen."""
    steps = '\n'.join(f"| {len(one['layers'])} | {', '.join(map(str, one['layers']))} | {one['log_p']:.3f} | "
                      f"{one['right']:.3f} | {again['log_p']:.3f} | {again['right']:.3f} |"
                      for one, again in zip(found.steps, found.fresh))
    return (f"# {name}\n\n![{name}]({picture})\n\n```\n$ {command}\n```\n\n"
            "| layers | that read | log p | right | fresh log p | fresh right |\n"
            f"| --- | --- | --- | --- | --- | --- |\n{steps}\n\n"
            f"Of {s['num_facts']} questions on made-up facts, and of as many on fresh ones: the answers' "
            "mean log p in nats, and the share that the model writes, the likeliest token each time. Each "
            "line has a group of layers less, that without which the answers stay likeliest. Chosen: the "
            f"fewest layers that keep {KEPT:.0%} of what reading with all adds to log p.\n\n"
            f"## The best, as a config file\n\n```python\n{config_text(found, s)}```\n")


def as_numbers(found):
    """What JSON can hold of it."""
    return dataclasses.asdict(found)
