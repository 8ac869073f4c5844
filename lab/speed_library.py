"""
Speed of a library's life: of building it, beside plain forward passes; opening, appending, forgetting,
compacting, beside one file of the same texts; of a chat that appends a text at a time; of a recall's votes.

Made-up keys of one key head of four layers in int8, and made-up words: what a memory that keeps tokens has on
the disk. None of it depends on what the numbers are, but what an approximate index finds.
"""
import os
import statistics
import tempfile
from types import SimpleNamespace

import torch

from core import library, stored
from core.held import Held
from core.narrow import narrowed
from core.origin import describe
from core.rows import batches_of_like_length
from lab.made_up import stories
from lab.speed_clock import ratio, seconds, spread, take_turns
from lab.speed_memory import resident
from lab.speed_setup import our_model
from memory import PersistentMemory
from reader import Reading
from recall import Recaller

TOKENS_A_TEXT, CHARACTERS_A_TOKEN = 77, 4  # of English, about
INDEX_LAYERS, QUESTION_TOKENS, RECALL_VOTES = 4, 10, 20  # one head of each layer
LISTS, INDEX_FROM_ROWS = 'IVF1024,SQ8', 50_000  # below, an index that looks through everything
BUILT_TEXTS = 256
MOST_APPENDED = 10_000  # by a chat, one at a time


def measure_library(folder, setup):
    """MB of the file, and milliseconds to open it and of what a library does, for each of stored_tokens."""
    model, table = our_model(folder, setup), []
    building = building_of(model, setup)
    print("\nlibrary: stored tokens, texts, MB, ms to write a file, to open it, to open a library, to append "
          "a text, to forget one, to compact, to vote exactly, by candidates; of a chat: texts, ms to append "
          "one, to open; MB at most")
    for M in setup.stored_tokens:
        description, held = made_up(model, max(1, M // TOKENS_A_TEXT), setup.seed)
        with tempfile.TemporaryDirectory() as files:
            row = {**life_of(description, held, files, setup), **votes_on(model, files, setup),
                   **life_of_a_chat(description, held, files), 'peak_mb': resident()}
        table.append({'stored_tokens': len(held.tokens), 'texts': len(held.texts), **row})
        times = ''.join(f"{one[0] if isinstance(one, list) else one:10.1f}" for one in [*row.values()][1:])
        print(f"  {len(held.tokens):8}{len(held.texts):8}{row['mb']:9.2f}{times}", flush=True)
    return {'building': building, 'life': table}


def building_of(model, setup):
    """Tokens a second of texts of which a memory that keeps tokens is built, and of plain passes of the same
    batches through as many layers; the one over the other. A token is a byte: all vocabularies have these."""
    heads = heads_of(model.config, setup)
    texts = [story.text[:TOKENS_A_TEXT] for story in stories('prove', setup.seed, BUILT_TEXTS)]
    tokenizer = SimpleNamespace(name='', encode=lambda text: list(text.encode()))
    rows = [torch.tensor(tokenizer.encode('\n' + text)) for text in texts]
    batches = [torch.nn.utils.rnn.pad_sequence([rows[i] for i in batch], batch_first=True).to(setup.device)
               for batch in batches_of_like_length([len(row) for row in rows])]
    n_layer, tokens = 1 + max(layer for layer, _ in heads), sum(map(len, rows))

    def build():
        PersistentMemory.from_texts(model, texts, tokenizer, index_heads=heads, keep='tokens', dtype='int8')

    def plain():
        with torch.inference_mode():
            for idx in batches:
                model.hidden(idx, layers=n_layer)

    times = take_turns({'plain': lambda: seconds(plain), 'build': lambda: seconds(build)}, 'building',
                       setup.repeats)
    found = {name: tokens / statistics.median(t) for name, t in times.items()}
    found['of_plain'] = ratio(times, 'plain', 'build')
    print(f"\nbuilding of {BUILT_TEXTS} texts of {tokens} tokens, {n_layer} layers: {found['build']:.0f} "
          f"tokens/s; plain passes: {found['plain']:.0f} tokens/s; {found['of_plain']:.2f} of these")
    return found


def heads_of(c, setup):
    """Those of the settings that a model of this config has."""
    here = tuple((layer, head) for layer, head in setup.index_heads if layer < c.n_layer and head < c.n_head)
    return here or ((0, 0),)


def made_up(model, count, seed):
    """What a memory of so many texts says of itself, and what it holds."""
    c, g = model.config, torch.Generator().manual_seed(seed)
    layers = sorted({c.n_layer * n // INDEX_LAYERS for n in range(INDEX_LAYERS)})
    rows = count * TOKENS_A_TEXT
    description = {'origin': describe(model), 'tokenizer': '', 'layers': [], 'bookkeeping_tokens': 1,
                   'dtype': 'int8', 'keep': 'tokens', 'index_heads': [[layer, 0] for layer in layers],
                   'header': [0]}
    words = 'word ' * (TOKENS_A_TEXT * CHARACTERS_A_TOKEN // 5)
    texts = [{'source': f'FILE:notes/{n}.txt', 'text': f'{n} {words}', 'rows': TOKENS_A_TEXT}
             for n in range(count)]
    parts = {('index', layer): [narrowed(torch.randn(1, rows, c.head_size, generator=g), torch.int8)]
             for layer in layers}
    return description, Held(parts, torch.randint(0, c.vocab_size, (rows,), generator=g), texts)


def life_of(description, held, files, setup):
    """A row of the table, but for the sizes."""
    file, folder = path_of(files), os.path.join(files, 'all')
    stored.append(folder, description, held, range(len(held.texts)))

    def forget():
        first = library.read(folder).segments[0]
        library.forget(folder, {first.file: [first.texts - 1]})

    jobs = {'write': lambda: stored.write(file, description, held),
            'open_file': lambda: PersistentMemory.load(file, None),
            'open_library': lambda: PersistentMemory.load(folder, None),
            'append': lambda: stored.append(folder, description, held, [0]),
            'forget': forget, 'compact': lambda: library.compact(folder)}
    times = take_turns({name: lambda job=job: seconds(job) for name, job in jobs.items()}, 'library',
                       setup.repeats)
    return {'mb': os.path.getsize(file) / 1e6, **{name: spread(t, 1000) for name, t in times.items()}}


def votes_on(model, files, setup):
    """Milliseconds of the votes on the file: what its head's queries cost is the model's, and left out."""
    memory, g = PersistentMemory.load(path_of(files), None), torch.Generator().manual_seed(setup.seed)
    asked = {place: torch.randn(1, QUESTION_TOKENS, model.config.head_size, generator=g)
             for place in memory.index_heads}
    factory = LISTS if len(memory) >= INDEX_FROM_ROWS else 'Flat'
    ways = {}
    for name, index in (('vote', ''), ('vote_by_candidates', factory)):
        reading = Reading(method=5, index_heads=memory.index_heads, index=index, recall_votes=RECALL_VOTES)
        recaller = Recaller(memory, reading, model.config, model.rotary)
        way = recaller.by_candidates if index else recaller.by_all
        ways[name] = lambda way=way: seconds(lambda: way(memory.held, asked))
    times = take_turns(ways, 'votes', setup.repeats)
    return {name: spread(t, 1000) for name, t in times.items()}


def life_of_a_chat(description, held, files):
    """A library that is appended to a text at a time: how many, milliseconds of each, and to open it then."""
    folder, count = os.path.join(files, 'chat'), min(MOST_APPENDED, len(held.texts))
    each = [seconds(lambda n=n: stored.append(folder, description, held, [n])) for n in range(count)]
    opened = seconds(lambda: PersistentMemory.load(folder, None))
    return {'appended': count, 'append_each': spread(each, 1000), 'open_appended': 1000 * opened}


def path_of(files):
    return os.path.join(files, 'all.safetensors')
