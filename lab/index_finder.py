"""
Finds a model's index heads: made-up facts choose them, facts of another world prove them, and so do real
paragraphs where a file of them is given.

Letters: H heads, Q questions, N texts, T tokens of all questions, nh query heads, hs head size.
"""
import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch

from core.held import Recent
from core.rotary import turn
from core.rows import QUERIES, run_together
from core.votes import above_the_floor, best_of_texts
from lab import index_heads
from lab.answers import prefix_of, turn_of
from lab.many_texts import BYTES_KEPT, Asking, library_of, told_by
from lab.squad import read_squad
from memory import PersistentMemory
from reader import Reading
from recall import LEAD_COUNTS, Recaller

MOST_HEADS = 6  # each costs a search; with more, what is found hardly rises
MOST_KEY_HEADS = 4  # whose keys a memory keeps of each token; query heads that share one cost it nothing
WEIGHED = 100  # questions that tell the evidence from that without the right text: each reads two texts
QUESTIONS_TOGETHER = 16  # whose best texts run beside each other


# ---- votes ----

def queries_of(model, turns, layers, distance):
    """-> {layer: (nh, T, hs) float32}: of the turns' own words, as they are `distance` tokens further on."""
    rows, starts = [torch.tensor(turn.ids[:turn.end]) for turn in turns], [turn.start for turn in turns]
    found = dict(run_together(model, rows, starts, layers, QUERIES))
    joined = {layer: torch.cat([found[i][layer][0] for i in range(len(turns))], dim=1) for layer in layers}
    if model.rotary is None:
        return joined
    far = model.rotary.at(torch.tensor([distance]))
    return {layer: turn(queries, far) for layer, queries in joined.items()}


def votes_by_head(model, tokenizer, library, heads, asking):
    """Each head's votes alone, in the order of `heads`: (H, Q, N) float32; and how many tokens each question
    has, (Q,)."""
    memory = PersistentMemory.from_texts(model, library.texts, tokenizer, index_heads=heads, keep='tokens',
                                         prefix=prefix_of(tokenizer, asking),
                                         window_tokens=model.config.block_size)  # whole texts
    turns = [turn_of(tokenizer, question, asking) for question in library.questions]
    tokens, group = torch.tensor([one.end - one.start for one in turns]), model.config.n_head // memory.n_head
    queries = queries_of(model, turns, sorted({layer for layer, _ in heads}), asking.distance)
    votes = np.zeros((len(heads), len(turns), len(library.texts)), dtype=np.float32)
    for i, (layer, head) in enumerate(heads):
        rows = memory.index(memory.held, layer, head // group)
        best = best_of_texts(queries[layer][head], rows, memory.held.lengths) / math.sqrt(rows.head_size)
        above = above_the_floor(best, asking.recall_votes, best)
        votes[i] = torch.segment_reduce(above, 'sum', lengths=tokens, axis=0).numpy()
    return votes, tokens.numpy()


# ---- the search ----

@dataclass(frozen=True)
class Found:
    """heads: chosen, [(layer, head)], in the order of choosing. steps: of each the score so far and the share
    found. alone (n_layer, n_head): the share that each head finds alone. proofs: {what of: numbers}.
    threshold: of the evidence, see recall.py."""
    heads: tuple
    steps: tuple
    alone: np.ndarray
    proofs: dict
    threshold: float


def find(model, tokenizer, s, done=lambda line: None):
    """s: evaluate.py's settings -> Found. done(line) is told of each step."""
    asking = Asking(s['chat'], s['system'], s['memory_distance'], s['recall_votes'])
    c, count = model.config, s['texts_together']
    heads = tuple(itertools.product(range(c.n_layer), range(c.n_head)))
    library = library_of(told_by(s, 'choose')[:count], s['seed'], s['num_facts'])
    votes, tokens = votes_by_head(model, tokenizer, library, heads, asking)
    alone = index_heads.share_found(votes, library.right)
    key_heads = [(layer, head // (c.n_head // c.n_kv_head)) for layer, head in heads]
    chosen = index_heads.greedy(votes, library.right, key_heads, MOST_HEADS, MOST_KEY_HEADS)
    steps, numbers = [], [i for i, _ in chosen]
    for n, (i, score) in enumerate(chosen, 1):
        share = float(index_heads.share_found(votes[numbers[:n]].sum(0), library.right))
        steps.append((score, share))
        done(f'{heads[i]}: {share:.3f} found, score {score:.3f}')
    picked, total = tuple(heads[i] for i in numbers), votes[numbers].sum(0)
    evidence = evidence_of(model, tokenizer, library, total, tokens * len(picked), asking)
    threshold = index_heads.threshold_of(evidence[1], index_heads.FALSE_RECALLS)
    proofs = {'the facts that chose': numbers_of(total, library, evidence, threshold)}
    for name, proof in proofs_of(s, count):
        total, tokens = votes_by_head(model, tokenizer, proof, picked, asking)
        total = total.sum(0)
        evidence = evidence_of(model, tokenizer, proof, total, tokens * len(picked), asking)
        proofs[name] = numbers_of(total, proof, evidence, threshold)
        done(f"{name}: {told(proofs[name])}")
    return Found(picked, tuple(steps), alone.reshape(c.n_layer, c.n_head), proofs, threshold)


def proofs_of(s, count):
    """-> (name, Library) of each: facts of the other world, and what squad_file holds."""
    yield 'fresh facts', library_of(told_by(s, 'prove')[:count], s['seed'], s['num_facts'])
    if s['squad_file']:
        yield s['squad_file'], library_of(read_squad(s['squad_file']), s['seed'], s['num_facts'])


def evidence_of(model, tokenizer, library, votes, voters, asking):
    """Whether a text is recalled, as recall.py weighs it among as many texts as can get votes or more: votes
    (Q, N), voters (Q,) -> (2, n), with the right texts, and with them taken out, of the first n questions:
    WEIGHED, where there are so many."""
    votes, voters = votes[:WEIGHED], voters[:WEIGHED]
    both = np.stack((votes, index_heads.without(votes, library.right[:WEIGHED])))
    lead = LEAD_COUNTS * index_heads.lead(both, voters)
    return lead + gains(model, tokenizer, library, both.argmax(-1), asking)


def gains(model, tokenizer, library, numbers, asking):
    """By how much texts of these numbers make each question likelier, in nats a token: (n, Q) -> (n, Q)."""
    none = ((0, 0),)  # votes are counted already
    memory = PersistentMemory.from_texts(model, library.texts, tokenizer, index_heads=none, keep='tokens',
                                         prefix=prefix_of(tokenizer, asking),
                                         window_tokens=model.config.block_size)
    memory.recent = Recent(BYTES_KEPT)
    recaller = Recaller(memory, Reading((), method=5, index_heads=none), model.config, model.rotary)
    found, device = [], model.transformer.wte.weight.device
    with torch.inference_mode():
        for at, (question, own) in enumerate(zip(library.questions, numbers.T.tolist())):
            if at % QUESTIONS_TOGETHER == 0:  # the texts of some questions run together
                texts = numbers[:, at:at + QUESTIONS_TOGETHER].flatten().tolist()
                memory.rows_of(model, memory.held, [(n,) for n in texts], recaller.layers)
            ids, first, end = turn_of(tokenizer, question, asking)
            alone = recaller.by_itself(torch.tensor([ids], device=device), (first, end))
            *after, alone = recaller.likelihoods(model, *alone, memory.held, [*((n,) for n in own), ()])
            found.append((np.array(after) - alone) / (end - first))
    return np.array(found).T


def numbers_of(votes, library, evidence, threshold):
    """What one library says of a set's votes (Q, N). evidence: with the right texts, and without."""
    right = library.right
    found = (index_heads.places(votes, right) == 0)[:WEIGHED]
    false, _ = index_heads.share_recalled(evidence[1], found, threshold)
    recalled, of_these = index_heads.share_recalled(evidence[0], found, threshold)
    return {'texts': len(library.texts), 'questions': len(right),
            'found': float(index_heads.share_found(votes, right)),
            'found_in_five': float(index_heads.share_found(votes, right, 5)), 'weighed': len(found),
            'recalled': recalled, 'recalled_right': of_these, 'false_recalls': false}


def told(numbers):
    n = numbers
    return (f"{n['found']:.3f} of {n['questions']} questions find their text among {n['texts']}, "
            f"{n['found_in_five']:.3f} in the best five; of {n['weighed']} above the threshold "
            f"{n['recalled']:.2f} recall, {n['recalled_right']:.3f} of them rightly, "
            f"{n['false_recalls']:.2f} with their text taken out")


# ---- what was found ----

WRITTEN = 'init_from', 'chat', 'system', 'memory_distance', 'recall_votes'  # as they were searched with


def config_text(found, s):
    """A file for sample.py."""
    lines = ['# Index heads found by evaluate.py on made-up facts. Share of questions that find their text:']
    for name, n in found.proofs.items():
        lines += [f"# {n['found']:.3f} ({name}; {n['questions']} questions, {n['texts']} texts), "
                  f"{n['found_in_five']:.3f} in the best five;",
                  f"#   {n['recalled']:.2f} above threshold, {n['false_recalls']:.2f} without it"]
    settings = {**{name: s[name] for name in WRITTEN}, 'memory_method': 5, 'memory_layers': (),
                'index_heads': found.heads, 'recall_threshold': round(found.threshold, 3)}
    return '\n'.join([*lines, *(f'{name} = {value!r}' for name, value in settings.items())]) + '\n'


def summary(found, name, picture, command, s):
    """The search as Markdown: each step, and what each library says."""
    steps = '\n'.join(f'| ({layer}, {head}) | {found.alone[layer, head]:.3f} | {share:.3f} | {value:.3f} |'
                      for (layer, head), (value, share) in zip(found.heads, found.steps))
    proofs = '\n'.join(f'- {of}: {told(numbers)}.' for of, numbers in found.proofs.items())
    return (f"# {name}\n\n![{name}]({picture})\n\n```\n$ {command}\n```\n\n"
            "| layer, head | finds alone | with those above | score |\n"
            f"| --- | --- | --- | --- |\n{steps}\n\n"
            "Finds: share of questions whose text has the most votes. Score, by which the set was picked: "
            f"the mean margin of the right text over the best other, cut off at {index_heads.CLEAR}.\n\n"
            f"{proofs}\n\n"
            f"## The best, as a config file\n\n```python\n{config_text(found, s)}```\n")


def as_numbers(found):
    """What JSON can hold of it."""
    return {'heads': found.heads, 'steps': found.steps, 'alone': found.alone.round(4).tolist(),
            'proofs': found.proofs, 'threshold': found.threshold}
