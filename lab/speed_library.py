"""
Speed of a library's life: opening, appending, forgetting, compacting, beside one file of the same texts.

Made-up keys of one key head of two layers in bfloat16, and made-up words: what a memory that keeps tokens
has on the disk. None of it depends on what the numbers are.
"""
import os
import tempfile

import torch

from core import library, stored
from core.held import Held
from core.origin import describe
from lab.speed_clock import seconds, spread, take_turns
from lab.speed_setup import our_model
from memory import PersistentMemory

TOKENS_A_TEXT, CHARACTERS_A_TOKEN = 77, 4  # of English, about


def measure_library(folder, setup):
    """MB of the file, and milliseconds to open it and of what a library does, for each of stored_tokens."""
    model, table = our_model(folder, setup), []
    print("\nlibrary: stored tokens, texts, MB, ms to write a file, to open it, to open a library, to append "
          "a text, to forget one, to compact")
    for M in setup.stored_tokens:
        description, held = made_up(model, max(1, M // TOKENS_A_TEXT), setup.seed)
        with tempfile.TemporaryDirectory() as files:
            row = life_of(description, held, files, setup)
        table.append({'stored_tokens': len(held.tokens), 'texts': len(held.texts), **row})
        times = ''.join(f"{ms[0]:10.1f}" for name, ms in row.items() if name != 'mb')
        print(f"  {len(held.tokens):8}{len(held.texts):8}{row['mb']:9.2f}{times}", flush=True)
    return table


def made_up(model, count, seed):
    """What a memory of so many texts says of itself, and what it holds."""
    c, g = model.config, torch.Generator().manual_seed(seed)
    layers, rows = sorted({max(0, c.n_layer // 2 - 1), c.n_layer // 2}), count * TOKENS_A_TEXT
    description = {'origin': describe(model), 'tokenizer': '', 'layers': [], 'bookkeeping_tokens': 1,
                   'dtype': 'bfloat16', 'keep': 'tokens', 'index_heads': [[layer, 0] for layer in layers],
                   'header': [0]}
    words = 'word ' * (TOKENS_A_TEXT * CHARACTERS_A_TOKEN // 5)
    texts = [{'source': f'FILE:notes/{n}.txt', 'text': f'{n} {words}', 'rows': TOKENS_A_TEXT}
             for n in range(count)]
    parts = {('index', layer): [torch.randn(1, rows, c.head_size, generator=g)] for layer in layers}
    return description, Held(parts, torch.randint(0, c.vocab_size, (rows,), generator=g), texts)


def life_of(description, held, files, setup):
    """A row of the table, but for the sizes."""
    file, folder = os.path.join(files, 'all.safetensors'), os.path.join(files, 'all')
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
