"""
PersistentMemory: keys and values that attention kept of remembered texts; written, searched, saved, loaded.

Letters as in model.py: nh key heads, hs head size, M stored tokens, K neighbours, N look-ups.
Nothing here knows how a model works: of one it needs `config`, `parameters()`, `fingerprint()` and
`heads_of(idx, layers)`.
"""
import os
import threading
from typing import NamedTuple

import numpy as np
import torch

from core import memory_file, old_folder
from core.checks import all_finite, check_indices, whole_number, whole_numbers
from core.generation import check_ids
from core.index import Index, Table


class Layer(NamedTuple):
    """One layer's rows, as they are when they are asked for: what is added later makes another Layer."""
    keys: Index
    values: Table
    lengths: tuple  # of the texts, in rows


class PersistentMemory:
    """
    Remembered texts as rows of keys and values, in every layer the same rows.

    `layers` tuple of the layers kept, `len(memory)` M, `keys` and `values` {layer: (nh, M, hs) float32},
    `tokens` (M,) int64 the token of each row, -1 where unknown,
    `texts` one dictionary a text, in order: 'source', 'text' and 'rows',
    `origin` what is known of the model that wrote it, `tokenizer` its name,
    `bookkeeping_tokens` the positions left out of each text.
    One thread may add while others read: they see all of a text or nothing of it.
    """

    def __init__(self, origin, layers, bookkeeping_tokens=1, tokenizer=''):
        self.layers = tuple(sorted(whole_numbers('layer', layers)))
        check_indices('layer', self.layers, origin['n_layer'])
        if not self.layers:
            raise ValueError("layers is (): name at least one layer, and each once")
        if whole_number('bookkeeping_tokens', bookkeeping_tokens) < 0:
            raise ValueError(f"bookkeeping_tokens is {bookkeeping_tokens}, expected 0 or more positions")
        self.origin, self.bookkeeping_tokens, self.tokenizer = origin, bookkeeping_tokens, tokenizer
        self.n_head, self.head_size = key_heads(origin), origin['head_size']
        self.partly_from = ''  # the file of which only some layers were loaded
        nothing = torch.zeros(self.n_head, 0, self.head_size)
        parts = {(kind, layer): [nothing] for kind in ('keys', 'values') for layer in self.layers}
        self._held, self._lock = Held(parts, torch.zeros(0, dtype=torch.int64), []), threading.Lock()

    def __len__(self):
        return len(self.tokens)

    def __getstate__(self):  # a copy has a lock of its own
        return {name: value for name, value in self.__dict__.items() if name != '_lock'}

    def __setstate__(self, attributes):
        self.__dict__.update(attributes, _lock=threading.Lock())

    def __repr__(self):
        return (f"PersistentMemory({len(self.texts)} texts, {len(self)} tokens, layers {self.layers}, "
                f"{self.n_head} heads of {self.head_size}, written by {self.origin['name']!r})")

    # ---- write ----

    @classmethod
    def from_tokens(cls, model, ids, layers, bookkeeping_tokens=1, source='', text='', tokenizer=''):
        """Runs ids once through the plain model: list of int, or (1, T) of a tensor, the prefix included.

        Keeps `layers`. The first `bookkeeping_tokens` rows are left out, since GPT-2 turns its first
        position into an attention sink (creation method 1 of the write-up is 0, and no prefix).
        Raises ValueError when ids are empty, longer than the model's context or outside its vocabulary.
        Touches no disk.
        """
        memory = cls(describe(model), layers, bookkeeping_tokens, tokenizer)
        memory.add(model, ids, source, text)
        return memory

    @classmethod
    def from_text(cls, model, text, tokenizer, layers, bookkeeping_tokens=1, source='', prefix='\n'):
        """As from_tokens, of a text; `tokenizer` has encode and name.

        `prefix` is put in front of the text when bookkeeping_tokens > 0.
        """
        memory = cls(describe(model), layers, bookkeeping_tokens, tokenizer.name)
        memory.add_text(model, text, tokenizer, source, prefix)
        return memory

    @classmethod
    def from_rows(cls, origin, rows, texts=(), tokens=None, bookkeeping_tokens=1, tokenizer=''):
        """Of rows at hand: {layer: (keys, values)}, each (nh, M, hs) float32.

        texts and tokens as the attributes; () and None where they are unknown.
        """
        memory = cls(origin, tuple(rows), bookkeeping_tokens, tokenizer)
        M = next(iter(rows.values()))[0].size(1)
        parts = {(kind, layer): [part] for layer, both in rows.items()
                 for kind, part in zip(('keys', 'values'), both)}
        texts = list(texts) or [{'source': '', 'text': '', 'rows': M}]
        memory._held = Held(parts, torch.full((M,), -1) if tokens is None else tokens, texts)
        return memory

    def add_text(self, model, text, tokenizer, source='', prefix='\n'):
        """One more text, as in `add`, less blank space around it. Raises ValueError if nothing is left."""
        text, skip = text.strip(), self.bookkeeping_tokens
        if not skip or not text:  # the prefix stands for what is left out, so that the text is kept whole
            prefix = ''
        ids = tokenizer.encode(prefix + text) if text else []
        before = tokenizer.encode(prefix) if prefix else []
        if skip < len(before) and list(ids[:len(before)]) == list(before):
            skip = len(before)  # a prefix of several tokens is left out whole
        if len(ids) <= skip:
            raise ValueError(f"the text to remember is empty{' (' + source + ')' if source else ''}: "
                             f"{len(ids)} tokens, of which "
                             f"bookkeeping_tokens={self.bookkeeping_tokens} are left out")
        self._add(model, ids, skip, source, text)

    def add(self, model, ids, source='', text=''):
        """Runs one more text through the plain model, on its own, and appends its rows.

        Raises as from_tokens, and then adds nothing.
        """
        self._add(model, ids, self.bookkeeping_tokens, source, text)

    def _add(self, model, ids, skip, source, text):
        self.check(model)
        idx = as_row(ids).to(next(model.parameters()).device)  # (1, T)
        if idx.size(1) > model.config.block_size:
            name = f"the text {source}" if source else "the text"
            raise ValueError(f"{name} has {idx.size(1)} tokens, "
                             f"the model's context is {model.config.block_size}: "
                             "split it, and add the parts as texts of their own")
        check_ids(idx, model.config.vocab_size)
        new = {(kind, layer): part[0, :, skip:].float().cpu().contiguous() for layer, (_, *both) in
               model.heads_of(idx, self.layers).items() for kind, part in zip(('keys', 'values'), both)}
        if not all(map(all_finite, new.values())):
            raise ValueError(f"the model's keys or values of the text {source or text[:40]!r} "
                             "are not finite: its weights are damaged, or its dtype is too narrow for them")
        entry = {'source': source, 'text': text, 'rows': idx.size(1) - skip}
        with self._lock:  # held for no more than this, so that texts run through the model side by side
            self._held = self._held.with_text(new, idx[0, skip:].cpu(), entry)

    # ---- read ----

    @property
    def tokens(self):
        return self._held.tokens

    @property
    def texts(self):
        return self._held.texts

    @property
    def keys(self):
        return {layer: self.layer(layer).keys.table.rows for layer in self.layers}

    @property
    def values(self):
        return {layer: self.layer(layer).values.rows for layer in self.layers}

    def layer(self, layer):
        """-> Layer, what a read holds on to while others add."""
        return self._held.layer(layer)

    def search(self, layer, heads, queries, k, metric='l2'):
        """The k stored keys of each look-up's head nearest to its query, exactly: see Index.search."""
        return self.layer(layer).keys.search(heads, queries, k, metric)

    def text_of(self, row):
        """The entry of `texts` that a row belongs to."""
        ends = np.cumsum([text['rows'] for text in self.texts])
        return self.texts[np.searchsorted(ends, row, side='right')]

    def check(self, model):
        """Raises ValueError, naming what differs, unless `model` is the one that wrote this memory."""
        check_origin(self.origin, describe(model))

    def check_layers(self, layers):
        """Raises ValueError unless this memory holds all of them."""
        check_held(layers, self.layers)

    # ---- save and load ----

    def save(self, path, replace=True):
        """Writes one .safetensors file, whole or not at all. Raises OSError when it cannot.

        replace: False raises FileExistsError where there is such a file by then. Raises ValueError where the
        file holds layers that were not loaded, which would be lost.
        """
        if self.partly_from and os.path.exists(path) and os.path.samefile(path, self.partly_from):
            raise ValueError(f"{path} holds more layers than the {self.layers} that were loaded of it: "
                             "load all of them, or save under another name")
        held = self._held  # taken once: what others add meanwhile is in the file whole or not at all
        tensors = {f'layers.{layer}.{kind}': held.part(kind, layer)
                   for layer in self.layers for kind in ('keys', 'values')}
        metadata = {'origin': self.origin, 'tokenizer': self.tokenizer,
                    'bookkeeping_tokens': self.bookkeeping_tokens,
                    'layers': self.layers, 'texts': held.texts}
        memory_file.write(os.fspath(path), {**tensors, 'tokens': held.tokens}, metadata, replace)

    @classmethod
    def load(cls, path, model, layers=()):
        """Reads a file that `save` wrote and checks it against `model`.

        `layers`: only these, () is all that the file holds. What is read is copied, compared with its
        checksums, and then independent of the file. Raises FileNotFoundError, PermissionError, ValueError:
        damaged, of another kind or version, written by another model, without these layers.
        """
        path, layers = os.fspath(path), tuple(sorted(whole_numbers('layer', layers)))
        try:
            file = memory_file.opened(path)
            metadata = memory_file.read_description(file)
            origin = metadata['origin']
            if metadata['format_version'] == 1:
                # of samples of the weights then; from here on of all of them
                sampled = model.state.sampled_fingerprint(model)
                check_origin(origin, {**describe(model), 'fingerprint': sampled})
                origin = {**origin, 'fingerprint': model.fingerprint()}
            # before the rows, which are large, are read
            check_origin(origin, describe(model))
            check_held(layers, metadata['layers'])
            layers = layers or tuple(metadata['layers'])
            tensors = memory_file.read_tensors(file, metadata, layers)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        rows = {layer: tuple(tensors[f'layers.{layer}.{kind}'] for kind in ('keys', 'values'))
                for layer in layers}
        memory = cls.from_rows(origin, rows, metadata['texts'], tensors['tokens'],
                               metadata['bookkeeping_tokens'], metadata['tokenizer'])
        memory.partly_from = path if set(layers) < set(metadata['layers']) else ''
        return memory

    @classmethod
    def from_folder(cls, folder, model, tokenizer=None):
        """Imports a memory of the original project, read-only, see core/old_folder.py.

        Such a folder does not say which model wrote it, so only the sizes are checked. Raises OSError
        kinds, ValueError.
        """
        origin = describe(model)
        rows = old_folder.read(folder, key_heads(origin), origin['head_size'])
        text, M = old_folder.read_text(folder), next(iter(rows.values()))[0].size(1)
        texts = [{'source': folder, 'text': text, 'rows': M}]
        return cls.from_rows(origin, rows, texts, old_folder.old_tokens(text, tokenizer, M))


class Held:
    """What a memory holds at one time. Adding makes another, so that who reads this one sees it whole."""

    def __init__(self, parts, tokens, texts):
        # parts: {(kind, layer): [(nh, n, hs), ...]}
        self.parts, self.tokens, self.texts = parts, tokens, texts
        self._layers = {}  # made when first asked for, never the truth

    def with_text(self, new, tokens, text):
        """new: {(kind, layer): (nh, n, hs)} of all layers -> Held."""
        parts = {key: [*some, new[key]] for key, some in self.parts.items()}
        return Held(parts, torch.cat((self.tokens, tokens)), [*self.texts, text])

    @torch.inference_mode(False)  # what is kept outlasts the call that first asked for it
    def part(self, kind, layer):
        """(nh, M, hs), of what was added part by part."""
        some = self.parts[kind, layer]
        if len(some) > 1:  # joined once, when first asked for, and not at every text that is added
            some = self.parts[kind, layer] = [torch.cat(some, dim=1)]
        return some[0].contiguous()

    def layer(self, layer):
        if layer not in self._layers:
            self._layers[layer] = Layer(Index(self.part('keys', layer)), Table(self.part('values', layer)),
                                        tuple(text['rows'] for text in self.texts))
        return self._layers[layer]


def as_row(ids):
    """A list of int, an array or tensor (T,) or (1, T) -> (1, T) int64. Raises ValueError."""
    idx = torch.as_tensor(ids if hasattr(ids, 'shape') else list(ids))
    if idx.numel() == 0:
        return torch.zeros(1, 0, dtype=torch.int64)
    is_whole = not idx.is_floating_point() and idx.dtype != torch.bool
    if not is_whole or idx.dim() > 2 or idx.dim() == 2 and len(idx) != 1:
        raise ValueError(f"the token ids are {tuple(idx.shape)} {idx.dtype}, "
                         "expected a list of whole numbers, or one row (1, T) of them")
    return idx.reshape(1, -1).to(torch.int64)


def check_held(layers, held):
    """Raises ValueError unless a memory that holds some layers holds all of `layers`."""
    if not set(layers) <= set(held):
        raise ValueError(f"layers {tuple(layers)} cannot read: the memory holds layers {tuple(held)}, "
                         "build it with memory_layers that include those that read")


# what must agree, and what messages call it: sizes first, since they say more than a fingerprint
FIELDS = {'n_head': 'n_head', 'n_kv_head': 'n_kv_head', 'head_size': 'head size', 'n_layer': 'n_layer',
          'vocab_size': 'vocabulary', 'fingerprint': 'weights of fingerprint'}


def describe(model):
    """What a memory keeps of the model that wrote it."""
    c = model.config
    return {'name': c.name, 'n_layer': c.n_layer, 'n_head': c.n_head, 'n_kv_head': c.n_kv_head,
            'head_size': c.head_size, 'vocab_size': c.vocab_size, 'fingerprint': model.fingerprint()}


def key_heads(origin):
    """How many heads have keys of their own; files of models where all have do not say."""
    return origin.get('n_kv_head', origin['n_head'])


def check_origin(origin, ours):
    """Raises ValueError, naming what differs, unless the model that `ours` describes is the origin."""
    origin = {**origin, 'n_kv_head': key_heads(origin)}
    for field, label in FIELDS.items():
        if origin[field] != ours[field]:
            raise ValueError(f"memory was written by {origin['name']!r} with {label} {origin[field]}, "
                             f"the model is {ours['name']!r} with {ours[field]}: "
                             "take that model, or build the memory again with this one (build_memory.py)")
