"""
PersistentMemory: keys and values that attention kept of remembered texts; written, searched, saved, loaded.

Letters as in model.py: nh key heads, hs head size, M stored tokens, K neighbours, N look-ups.
Nothing here knows how a model works: of one it needs `config`, `parameters()`, `fingerprint()` and
`heads_of(idx, layers)`.
"""
import os
import threading

import numpy as np
import torch

from core import memory_file, old_folder
from core.checks import all_finite, check_choice, check_indices, pairs_of_heads, whole_number, whole_numbers
from core.held import Held, Recent
from core.origin import check_origin, describe, key_heads
from core.rows import as_row, batches_of_like_length, check_length

KEEPS = 'values', 'tokens'


class PersistentMemory:
    """
    Remembered texts as rows of keys and values, in every layer the same rows.

    `layers` tuple of the layers kept, `len(memory)` M, `keys` and `values` {layer: (nh, M, hs) float32},
    `tokens` (M,) int64 the token of each row, -1 where unknown,
    `texts` one dictionary a text, in order: 'source', 'text' and 'rows',
    `origin` what is known of the model that wrote it, `tokenizer` its name,
    `bookkeeping_tokens` the positions left out of each text, `header` their tokens, () where they differ,
    `index_heads` the (layer, query head) by which method 5 finds a text,
    `keep` 'values', or 'tokens': no layer's rows, of the index heads their keys alone; what is recalled runs
    through the model again.
    One thread may add while others read: they see all of a text or nothing of it.
    """

    def __init__(self, origin, layers, bookkeeping_tokens=1, tokenizer='', index_heads=(), keep='values'):
        self.layers = tuple(sorted(whole_numbers('layer', layers)))
        check_indices('layer', self.layers, origin['n_layer'])
        self.index_heads = pairs_of_heads(index_heads, origin['n_layer'], origin['n_head'])
        check_choice('keep', keep, KEEPS)
        if keep == 'tokens' and not self.index_heads:
            raise ValueError("keep is 'tokens', which leaves the keys of index heads alone: name index_heads")
        if keep == 'tokens' and self.layers:
            raise ValueError(f"keep is 'tokens', which keeps no layer's rows, but layers is {self.layers}: "
                             "leave layers out, or keep 'values'")
        if keep == 'values' and not self.layers:
            raise ValueError("layers is (): name at least one layer, and each once")
        if whole_number('bookkeeping_tokens', bookkeeping_tokens) < 0:
            raise ValueError(f"bookkeeping_tokens is {bookkeeping_tokens}, expected 0 or more positions")
        self.origin, self.bookkeeping_tokens, self.tokenizer = origin, bookkeeping_tokens, tokenizer
        self.n_head, self.head_size, self.keep = key_heads(origin), origin['head_size'], keep
        self.partly_from = ''  # the file of which only some layers were loaded
        self.header, self.recent = (), Recent()
        parts = {(kind, layer): [torch.zeros(self.n_head, 0, self.head_size)]
                 for kind in ('keys', 'values') for layer in self.layers}
        parts |= {('index', layer): [torch.zeros(len(heads), 0, self.head_size)]
                  for layer, heads in self.index_key_heads.items() if layer not in self.layers}
        self._held, self._lock = Held(parts, torch.zeros(0, dtype=torch.int64), []), threading.Lock()

    @property
    def index_key_heads(self):
        """{layer: its key heads that serve an index head}."""
        group, found = self.origin['n_head'] // self.n_head, {}
        for layer, head in self.index_heads:
            found.setdefault(layer, set()).add(head // group)
        return {layer: tuple(sorted(heads)) for layer, heads in found.items()}

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

    @classmethod
    def from_texts(cls, model, texts, tokenizer, layers=(), index_heads=(), keep='values',
                   bookkeeping_tokens=1, prefix='\n', sources=()):
        """A memory of many texts, see add_texts. layers: those kept, () is all; none where keep is 'tokens'."""
        layers = layers or (range(model.config.n_layer) if keep == 'values' else ())
        memory = cls(describe(model), layers, bookkeeping_tokens, tokenizer.name, index_heads, keep)
        memory.add_texts(model, texts, tokenizer, prefix, sources)
        return memory

    def add_text(self, model, text, tokenizer, source='', prefix='\n'):
        """One more text, as in `add`, less blank space around it. Raises ValueError if nothing is left."""
        self.add_texts(model, [text], tokenizer, prefix, [source])

    def add_texts(self, model, texts, tokenizer, prefix='\n', sources=()):
        """More texts, each on its own, less blank space around it; those of like length run together.

        prefix: put in front of each when bookkeeping_tokens > 0, and left out again whole. sources: where
        each is from, () is unknown. Raises ValueError, and then adds nothing.
        """
        sources = sources or [''] * len(texts)
        if len(sources) != len(texts):
            raise ValueError(f"{len(sources)} sources were given for {len(texts)} texts: give one a text")
        encoded = [self._encode(text.strip(), tokenizer, prefix, source)
                   for text, source in zip(texts, sources)]
        self._add(model, encoded, [{'source': source, 'text': text.strip()}
                                   for text, source in zip(texts, sources)])

    def _encode(self, text, tokenizer, prefix, source):
        """-> ids, and how many of the first are left out."""
        skip = self.bookkeeping_tokens
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
        return ids, skip

    def add(self, model, ids, source='', text=''):
        """Runs one more text through the plain model, on its own, and appends its rows.

        Raises as from_tokens, and then adds nothing.
        """
        self._add(model, [(ids, self.bookkeeping_tokens)], [{'source': source, 'text': text}])

    def _add(self, model, encoded, entries):
        """encoded: [(ids, how many of them are left out)]."""
        self.check(model)
        rows, skips = [], [skip for _, skip in encoded]
        for (ids, _), entry in zip(encoded, entries):
            rows.append(as_row(ids)[0])
            check_length(rows[-1], model.config, entry['source'])
        headers = {tuple(row[:skip].tolist()) for row, skip in zip(rows, skips)}
        new = self._run(model, rows, skips, entries)
        kept = [row[skip:] for row, skip in zip(rows, skips)]
        entries = [{**entry, 'rows': len(row)} for entry, row in zip(entries, kept)]
        with self._lock:  # held for no more than this, so that texts run through the model side by side
            self._take_header(headers)
            self._held = self._held.with_texts(new, torch.cat(kept), entries)

    def _take_header(self, headers):
        """The tokens in front of every text so far and of new ones; () where they are not the same."""
        headers = headers | ({self.header} if self._held.texts else set())
        if len(headers) > 1 and self.index_heads:
            raise ValueError("the texts stand behind different prefixes: a memory with index_heads has one, "
                             "give the prefix that its other texts were written behind")
        self.header = headers.pop() if len(headers) == 1 else ()

    def _run(self, model, rows, skips, entries):
        """Texts, each (T,) ids, through the plain model -> {(kind, layer): (nh, n, hs)}, in their order."""
        wanted, device = {*self.layers, *self.index_key_heads}, next(model.parameters()).device
        found = [None] * len(rows)
        for batch in batches_of_like_length([len(row) for row in rows]):
            idx = torch.nn.utils.rnn.pad_sequence([rows[i] for i in batch], batch_first=True).to(device)
            heads = model.heads_of(idx, wanted)
            for at, i in enumerate(batch):
                own = slice(skips[i], len(rows[i]))
                found[i] = self._kept_of({layer: [part[at, :, own].float().cpu() for part in both]
                                          for layer, (_, *both) in heads.items()})
                if not all(map(all_finite, found[i].values())):
                    name = entries[i]['source'] or entries[i]['text'][:40]
                    raise ValueError(f"the model's keys or values of the text {name!r} are not finite: its "
                                     "weights are damaged, or its dtype is too narrow for them")
        return {key: torch.cat([one[key] for one in found], dim=1) for key in self._held.parts}

    def _kept_of(self, heads):
        """{layer: (keys, values)} of one text, each (nh, n, hs) -> {(kind, layer): rows} that are kept."""
        parts = {('index', layer): heads[layer][0][list(own)] for layer, own in self.index_key_heads.items()
                 if layer not in self.layers}
        return parts | {(kind, layer): part.contiguous() for layer in self.layers
                        for kind, part in zip(('keys', 'values'), heads[layer])}

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

    def index(self, layer):
        """The index heads' keys of a layer -> {key head: (M, hs) float32}, of the texts at this time."""
        return self._held.index(layer, self.index_key_heads[layer], layer in self.layers)

    def rows_of(self, model, number, layers):
        """One text's keys and values of these layers: {layer: two of (nh, n, hs) float32}.

        Where tokens alone are kept it runs through the model again, unless it was recalled a while ago.
        """
        held = self._held
        if self.keep == 'values':
            return {layer: tuple(held.rows(kind, layer, number).float() for kind in ('keys', 'values'))
                    for layer in layers}
        return self.recent.get((number, tuple(layers)), lambda: self._again(model, held, number, layers))

    def _again(self, model, held, number, layers):
        end = int(held.ends[number])
        ids = [*self.header, *held.tokens[end - held.texts[number]['rows']:end].tolist()]
        idx = torch.tensor([ids], device=next(model.parameters()).device)
        heads = model.heads_of(idx, layers)
        return {layer: tuple(part[0, :, len(self.header):].float().cpu() for part in both)
                for layer, (_, *both) in heads.items()}

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


def check_held(layers, held):
    """Raises ValueError unless a memory that holds some layers holds all of `layers`."""
    if not set(layers) <= set(held):
        raise ValueError(f"layers {tuple(layers)} cannot read: the memory holds layers {tuple(held)}, "
                         "build it with memory_layers that include those that read")
