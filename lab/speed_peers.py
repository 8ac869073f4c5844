"""
Cost of a question that one of many texts answers: asked alone, with BM25's text in the prompt, or with a
memory of all texts.

Texts are made up, and so are a memory's rows: a vote or a look-up costs what it costs whatever they are.
"""
import dataclasses
import itertools
from collections import namedtuple

import torch

from core.held import Held, Recent
from core.narrow import of_dtype
from core.origin import index_key_heads, key_heads
from lab.bm25 import bm25_of
from lab.conditions import reading_memory
from lab.made_up import stories
from lab.speed_clock import seconds, spread, take_turns
from load import load_model
from memory import PersistentMemory, describe
from reader import Reading

NEW_TOKENS = 16  # after the first
MOST_SEARCHED = 100  # texts for methods 1 to 4, which keep all layers' rows: 46 KB a token of SmolLM2
# write(n): answers with n tokens; kept: bytes that stay of each token of the texts
Way = namedtuple('Way', 'write kept')


def measure_peers(folder, setup):
    """Of each way to answer, for each of setup.texts: tokens through the model before the first that is
    written, ms to that one, ms for each after it, bytes kept of a token of the texts."""
    model, tokenizer = load_model(folder, device=setup.device)
    told, table = stories('prove', setup.seed, max(setup.texts)), []
    ids = [tokenizer.encode('\n' + story.text) for story in told]
    print("\npeers: texts, their tokens, way; tokens through the model, ms to the first token, ms for each "
          "after it, bytes kept a token")
    for count in setup.texts:
        tokens = sum(len(row) - 1 for row in ids[:count])
        for row in rows_of(model, ways_of(model, tokenizer, told[:count], ids[:count], setup), setup):
            table.append({'texts': count, 'text_tokens': tokens, **row})
            print(f"  {count:6}{tokens:8}  {row['name']:32}{row['tokens']:8.1f}{row['first_ms'][0]:10.1f}"
                  f"{row['ms'][0]:8.1f}{row['bytes_a_token']:10.0f}", flush=True)
    return table


def rows_of(model, ways, setup):
    """Each way's numbers; ways take turns."""
    first, more = (take_turns({name: lambda way=way, n=n: seconds(lambda: way.write(n))
                               for name, way in ways.items()}, 'peers', setup.repeats)
                   for n in (1, 1 + NEW_TOKENS))
    for name, way in ways.items():
        after = [(whole - one) / NEW_TOKENS for one, whole in zip(first[name], more[name])]
        yield {'name': name, 'tokens': tokens_through(model, way), 'first_ms': spread(first[name], 1000),
               'ms': spread(after, 1000), 'bytes_a_token': way.kept}


def tokens_through(model, way):
    """Tokens that run through all layers until the first is written; of half of them half a token."""
    passed = []
    hooks = [block.register_forward_hook(lambda block, inputs, x: passed.append(inputs[0][..., 0].numel()))
             for block in model.transformer.h]
    try:
        way.write(1)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(passed) / model.config.n_layer


# ---- ways ----

def ways_of(model, tokenizer, told, ids, setup):
    """{name: Way} to answer a question on the first text."""
    question, rows = tokenizer.encode('\n' + told[0].questions[0].begins), sum(len(row) - 1 for row in ids)
    words, bm25 = [told[0].questions[0].begins], bm25_of([story.text for story in told])
    of_words = sum(len(story.text.encode()) for story in told) / rows

    def alone(n):
        generate(model, question, n)

    def with_bm25(n):
        generate(model, ids[int(bm25(words)[0].argmax())] + question, n)

    ways = {'question alone': Way(alone, 0.0), "BM25's text in the prompt": Way(with_bm25, of_words)}
    memory = made_up(model, ids, told, setup)
    reading = Reading(layers=(), method=5, index_heads=setup.index_heads, recall_votes=20)
    kept = memory.held.nbytes / rows + of_words
    ways['method 5'] = Way(reads(model, question, memory, reading, again=True), kept)
    ways['method 5, its text read lately'] = Way(reads(model, question, memory, reading), kept)
    if len(told) <= MOST_SEARCHED:
        memory = random_rows(model, rows, setup.seed)
        for name, one in searching(model).items():
            ways[name] = Way(reads(model, question, memory, one), memory.held.nbytes / rows)
    return ways


def searching(model):
    """Methods that look all rows up, as config/study/smollm2_recall.py has them at their best."""
    common = Reading(layers=tuple(range(model.config.n_layer)), select='each', memory_fraction=5.0,
                     bookkeeping_fraction=0.9)
    return {'method 4, all layers': dataclasses.replace(common, method=4, k=2048, softmax_scale=1.0),
            'method 2, all layers': dataclasses.replace(common, method=2, k=5, softmax_scale=30.0,
                                                        residual_fraction=0.33)}


def generate(model, ids, n):
    model.generate(torch.tensor([ids], device=model.transformer.wte.weight.device), n, top_k=1)


def reads(model, question, memory, reading, again=False):
    """again: the recalled text runs through the model each time."""
    def write(n):
        memory.recent = Recent() if again else memory.recent
        with reading_memory(model, memory, reading):
            generate(model, question, n)
    return write


# ---- memories ----

def made_up(model, ids, told, setup):
    """What keeps the tokens of texts, each behind a header, and random keys for the index heads, as
    config/smollm2_library.py has it."""
    memory = PersistentMemory(describe(model), (), 1, '', setup.index_heads, 'tokens', 'int8')
    rows, g = [row[1:] for row in ids], torch.Generator()
    random = {('index', layer): torch.randn(len(heads), sum(map(len, rows)), model.config.head_size,
                                            generator=g.manual_seed(setup.seed + layer))
              for layer, heads in index_key_heads(memory.origin, setup.index_heads).items()}
    parts = {key: [part] for key, part in of_dtype(random, memory.dtype).items()}
    texts = [{'source': '', 'text': story.text, 'rows': len(row)} for story, row in zip(told, rows)]
    memory.header, tokens = tuple(ids[0][:1]), torch.tensor(list(itertools.chain.from_iterable(rows)))
    memory._held = Held(parts, tokens, texts)  # the one place that knows its inside: a build takes an hour
    return memory


def random_rows(model, M, seed):
    """M rows of all layers."""
    origin, g = describe(model), torch.Generator().manual_seed(seed)
    return PersistentMemory.from_rows(origin, {
        layer: tuple(torch.randn(key_heads(origin), M, origin['head_size'], generator=g) for _ in range(2))
        for layer in range(origin['n_layer'])})
