"""
PersistentMemory: keys and values that attention kept of remembered texts; written, searched, saved, loaded.

Letters as in model.py: nh key heads, hs head size, M stored tokens, K neighbours, N look-ups.
Nothing here knows how a model works: of one it needs `config`, `parameters()`, `fingerprint()` and
`heads_of(idx, layers)`.
"""
import os
import threading

import torch

from core import old_folder, stored
from core.checks import all_finite, check_choice, check_indices, pairs_of_heads, whole_number, whole_numbers
from core.held import Held, Recent
from core.narrow import check_dtype, of_dtype
from core.origin import check_held, check_origin, describe, index_key_heads, key_heads, origin_read
from core.rows import Header, as_row, check_length, run_again, run_together
from core.windows import WINDOW_OVERLAP, cut, joined

KEEPS = 'values', 'tokens'


class PersistentMemory:
    """
    Remembered texts as rows of keys and values, in every layer the same rows.

    `layers` tuple of the layers kept, `len(memory)` M, `keys` and `values` {layer: (nh, M, hs) float32},
    `tokens` (M,) int64 the token of each row, -1 where unknown,
    `texts` one dictionary a text, in order: 'source', 'text' and 'rows', of a part of a longer text also its
    place, see core/windows.py; `forgotten` the numbers of those that have no rows any more,
    `origin` what is known of the model that wrote it, `tokenizer` its name,
    `bookkeeping_tokens` the positions left out of each text, `header` their tokens, () where they differ,
    `index_heads` the (layer, query head) by which method 5 finds a text,
    `keep` 'values', or 'tokens': no layer's rows, of the index heads their keys alone; what is recalled runs
    through the model again,
    `dtype` 'float32' or 'bfloat16', that of the rows in its files, or of keep 'tokens' 'int8'.
    One thread may add while others read: they see all of a text or nothing of it.
    """

    def __init__(self, origin, layers, bookkeeping_tokens=1, tokenizer='', index_heads=(), keep='values',
                 dtype='float32'):
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
        check_dtype(dtype, keep)
        if whole_number('bookkeeping_tokens', bookkeeping_tokens) < 0:
            raise ValueError(f"bookkeeping_tokens is {bookkeeping_tokens}, expected 0 or more positions")
        self.origin, self.bookkeeping_tokens, self.tokenizer = origin, bookkeeping_tokens, tokenizer
        self.n_head, self.head_size, self.keep = key_heads(origin), origin['head_size'], keep
        self.partly_from = ''  # the file of which only some layers were loaded
        self.home, self.dtype = None, dtype  # home: stored.Home of the library that it is of
        self.header, self.recent = (), Recent()
        self._held = self._nothing()
        self._lock, self._saving = threading.Lock(), threading.Lock()

    def _nothing(self):
        parts = {(kind, layer): [torch.zeros(self.n_head, 0, self.head_size)]
                 for kind in ('keys', 'values') for layer in self.layers}
        parts |= {('index', layer): [torch.zeros(len(heads), 0, self.head_size)]
                  for layer, heads in self.index_key_heads.items() if layer not in self.layers}
        return Held(parts, torch.zeros(0, dtype=torch.int64), [])

    @property
    def index_key_heads(self):
        """{layer: its key heads that serve an index head}."""
        return index_key_heads(self.origin, self.index_heads)

    @property
    def header_tokens(self):
        """How many tokens each text was written behind, which were left out."""
        return len(self.header) or self.bookkeeping_tokens

    def __len__(self):
        return len(self.tokens)

    def __getstate__(self):  # a copy has a lock of its own
        return {name: value for name, value in self.__dict__.items() if name not in ('_lock', '_saving')}

    def __setstate__(self, attributes):
        self.__dict__.update(attributes, _lock=threading.Lock(), _saving=threading.Lock())

    def __repr__(self):
        texts = len(self.texts) - len(self.forgotten)
        return (f"PersistentMemory({texts} texts, {len(self)} tokens, layers {self.layers}, "
                f"{self.n_head} heads of {self.head_size}, written by {self.origin['name']!r})")

    # ---- write ----

    @classmethod
    def from_tokens(cls, model, ids, layers, bookkeeping_tokens=1, source='', text='', tokenizer=''):
        """Runs ids once through the plain model: list of int, or (1, T) of a tensor, the prefix included.

        Keeps `layers`. The first `bookkeeping_tokens` rows are left out, since GPT-2 turns its first
        position into an attention sink (creation method 1 of the write-up is 0, and no prefix). Raises
        ValueError when ids are empty, longer than the model's context or outside its vocabulary.
        """
        memory = cls(describe(model), layers, bookkeeping_tokens, tokenizer)
        memory.add(model, ids, source, text)
        return memory

    @classmethod
    def from_text(cls, model, text, tokenizer, layers, bookkeeping_tokens=1, source='', prefix='\n'):
        """As from_tokens, of a text; `tokenizer` has encode and name. prefix: as in add_texts."""
        memory = cls(describe(model), layers, bookkeeping_tokens, tokenizer.name)
        memory.add_text(model, text, tokenizer, source, prefix)
        return memory

    @classmethod
    def from_rows(cls, origin, rows, texts=(), tokens=None, bookkeeping_tokens=1, tokenizer=''):
        """Of rows at hand: {layer: (keys, values)}, each (nh, M, hs) float32. () and None are unknown."""
        memory = cls(origin, tuple(rows), bookkeeping_tokens, tokenizer)
        M = next(iter(rows.values()))[0].size(1)
        parts = {(kind, layer): [part] for layer, both in rows.items()
                 for kind, part in zip(('keys', 'values'), both)}
        texts = list(texts) or [{'source': '', 'text': '', 'rows': M}]
        memory._held = Held(parts, torch.full((M,), -1) if tokens is None else tokens, texts)
        return memory

    @classmethod
    def from_texts(cls, model, texts, tokenizer, layers=(), index_heads=(), keep='values',
                   bookkeeping_tokens=1, prefix='\n', sources=(), chat=False, system='', window_tokens=0,
                   window_overlap=WINDOW_OVERLAP, dtype='float32', ending=''):
        """A memory of many texts, see add_texts. layers: those kept, () is all, or none of keep 'tokens'."""
        layers = layers or (range(model.config.n_layer) if keep == 'values' else ())
        memory = cls(describe(model), layers, bookkeeping_tokens, tokenizer.name, index_heads, keep, dtype)
        memory.add_texts(model, texts, tokenizer, prefix, sources, chat, system, window_tokens,
                         window_overlap, ending)
        return memory

    def add_text(self, model, text, tokenizer, source='', prefix='\n'):
        """One more text, as in `add`, less blank space around it. Raises ValueError if nothing is left."""
        self.add_texts(model, [text], tokenizer, prefix, [source])

    def add_texts(self, model, texts, tokenizer, prefix='\n', sources=(), chat=False, system='',
                  window_tokens=0, window_overlap=WINDOW_OVERLAP, ending=''):
        """More texts, each on its own, less blank space around it; those of like length run together.

        prefix: put in front of each when bookkeeping_tokens > 0, and left out again whole; with chat that is
        the model's chat template up to a user's words, with what the system says. ending: put behind each
        and kept, such as a prompt's line feed. sources: where each is from, () is unknown. window_tokens: a
        longer text is cut into windows, see core/windows.py; 0 is 256 with index heads, else as many as the
        model sees. Raises ValueError, and then adds nothing.
        """
        sources = sources or [''] * len(texts)
        if len(sources) != len(texts):
            raise ValueError(f"{len(sources)} sources were given for {len(texts)} texts: give one a text")
        header = Header(prefix if self.bookkeeping_tokens else '', chat, system, ending)
        window_tokens = window_tokens or header.longest_text(model, tokenizer, self.index_heads)
        entries = cut(texts, sources, tokenizer, window_tokens, window_overlap, header.text(tokenizer))
        self.add_entries(model, entries, tokenizer, header)

    def add_entries(self, model, entries, tokenizer, header, done=lambda tokens: None):
        """As add_texts, of [{'source', 'text'}] that are cut, behind a core.rows.Header. done: is told of the
        tokens of each that has run."""
        encoded = [header.encode(entry, tokenizer, self.bookkeeping_tokens) for entry in entries]
        if header.ending:
            endings = [header.length_of_ending(ids, tokenizer) for ids, _ in encoded]
            entries = [{**entry, 'ending': n} for entry, n in zip(entries, endings)]
        self._add(model, encoded, entries, done)

    def add(self, model, ids, source='', text=''):
        """Runs one more text through the plain model, on its own, and appends its rows. Raises as
        from_tokens, and then adds nothing."""
        self._add(model, [(ids, self.bookkeeping_tokens)], [{'source': source, 'text': text}])

    def _add(self, model, encoded, entries, done=lambda tokens: None):
        """encoded: [(ids, how many of them are left out)]."""
        self.check(model)
        if not encoded:
            return
        rows, skips = [], [skip for _, skip in encoded]
        for (ids, _), entry in zip(encoded, entries):
            rows.append(as_row(ids)[0])
            check_length(rows[-1], model.config, entry['source'])
        headers = {tuple(row[:skip].tolist()) for row, skip in zip(rows, skips)}
        new = self._run(model, rows, skips, entries, done)
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

    def _run(self, model, rows, skips, entries, done):
        """Texts, each (T,) ids, through the plain model -> {(kind, layer): (nh, n, hs)}, in their order."""
        found = [None] * len(rows)
        for i, heads in run_together(model, rows, skips, {*self.layers, *self.index_key_heads}):
            found[i] = self._kept_of(heads)
            if not all(map(all_finite, found[i].values())):
                name = entries[i]['source'] or entries[i]['text'][:40]
                raise ValueError(f"the model's keys or values of the text {name!r} are not finite: its "
                                 "weights are damaged, or its dtype is too narrow for them")
            done(len(rows[i]) - skips[i])
        return of_dtype({key: torch.cat([one[key] for one in found], dim=1) for key in self._held.parts},
                        self.dtype)

    def _kept_of(self, heads):
        """{layer: (keys, values)} of one text, each (nh, n, hs) -> {(kind, layer): rows} that are kept."""
        parts = {('index', layer): heads[layer][0][list(own)] for layer, own in self.index_key_heads.items()
                 if layer not in self.layers}
        return parts | {(kind, layer): part.contiguous() for layer in self.layers
                        for kind, part in zip(('keys', 'values'), heads[layer])}

    # ---- read ----

    @property
    def tokens(self):
        return self._held.live_tokens

    @property
    def texts(self):
        return self._held.texts

    @property
    def forgotten(self):
        return self._held.forgotten

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
        return self._held.text_of(row)

    @property
    def held(self):
        """All of it as it is now, for who reads while others add: see core/held.py."""
        return self._held

    def index(self, held, layer, head):
        """One key head's keys, of those that serve an index head: a core.narrow.IndexRows of M."""
        return held.index(layer, self.index_key_heads[layer], layer in self.layers)[head]

    def rows_of(self, model, held, runs, layers):
        """Keys and values of texts: {run: {layer: two of (nh, n, hs) float32}}. A run is a text's number
        (n,), or those of windows to be joined. Such, and texts whose tokens alone are kept, run through the
        model again, together, unless they did a while ago."""
        kept = [run for run in runs if self.keep == 'values' and len(run) == 1]
        # a number is another text's when compacted, and a model in bfloat16 makes other rows
        of = tuple(layers), frozenset(part.dtype for part in model.parameters())
        keys = {run: ((*self.header, *joined(held, run).tolist()), *of) for run in runs if run not in kept}
        made = self.recent.get(keys.values(), lambda new: run_again(model, [ids for ids, *_ in new],
                                                                    len(self.header), layers))
        return {run: made[key] for run, key in keys.items()} | {
            run: {layer: tuple(held.rows(kind, layer, *run).float() for kind in ('keys', 'values'))
                  for layer in layers} for run in kept}

    def check(self, model):
        """Raises ValueError, naming what differs, unless `model` is the one that wrote this memory."""
        check_origin(self.origin, describe(model))

    def check_reading(self, layers, method=4, index_heads=()):
        """Raises ValueError unless this memory holds what a method reads: these layers, these index heads."""
        missing = set(index_heads) - set(self.index_heads)
        if method == 5 and missing:
            raise ValueError(f"the memory has no keys of index heads {tuple(sorted(missing))}, but of "
                             f"{self.index_heads or 'none'}: build it with these index_heads")
        if self.keep == 'values':
            check_held(layers, self.layers)
        elif method != 5:
            raise ValueError("the memory keeps tokens, no layer's rows, which method 5 alone reads: build it "
                             "with keep='values'")

    # ---- forget and merge ----

    def forget(self, which):
        """Texts are recalled and read no more -> how many. which: their numbers in `texts`, or their source.

        The others keep their numbers until `compact`. Touches no disk: saving says so in a library, by one
        small write, and leaves them out of a file. Raises ValueError for what is not there.
        """
        with self._lock:
            held = self._held
            numbers = held.of_source(which) if isinstance(which, str) else whole_numbers('text', which)
            self._held = held.without(numbers)
        return len({*numbers})

    def merge(self, other):
        """All texts of another memory of the same model and kind, behind those of this one. Touches no disk.

        Raises ValueError that names what differs.
        """
        check_origin(other.origin, self.origin)
        ours, theirs = self.description(), other.description()
        for name in sorted(ours.keys() - {'origin', 'header', 'dtype'}):
            if ours[name] != theirs[name]:
                raise ValueError(f"the memories differ in {name}, {ours[name]} and {theirs[name]}: build "
                                 "both with the same settings")
        with self._lock:
            self._take_header({other.header})
            self._held = self._held.with_held(other.held, self.dtype)

    # ---- save and load ----

    def description(self):
        """What its files say of it, beside the texts."""
        return {'origin': self.origin, 'tokenizer': self.tokenizer, 'layers': list(self.layers),
                'bookkeeping_tokens': self.bookkeeping_tokens, 'dtype': self.dtype, 'keep': self.keep,
                'index_heads': [list(pair) for pair in self.index_heads],
                'header': list(self.header)}

    @classmethod
    def of(cls, description):
        """An empty memory of such a kind."""
        return cls(description['origin'], description['layers'], description['bookkeeping_tokens'],
                   description['tokenizer'], description['index_heads'], description['keep'],
                   description['dtype'])

    def save(self, path, replace=True):
        """Writes one file, a .safetensors, whole or not at all; or, where the path is a folder or has no
        ending, a library (core/library.py), of which only what changed since it was loaded or saved.

        Raises OSError when it cannot. replace: False raises FileExistsError where there is such a file by
        then; a library that is not this memory's is never replaced. Raises ValueError where the file holds
        layers that were not loaded, which would be lost.
        """
        path = os.fspath(path)
        if self.partly_from and os.path.exists(path) and os.path.samefile(path, self.partly_from):
            raise ValueError(f"{path} holds more layers than the {self.layers} that were loaded of it: "
                             "load all of them, or save under another name")
        if stored.is_folder(path):
            self._save_library(path)
        else:
            # what it holds is taken once: what others add meanwhile is in the file whole or not at all
            stored.write(path, self.description(), self._held, replace)

    def _save_library(self, folder):
        with self._saving:  # others may add meanwhile, which numbers no text anew
            home = self.home if self.home and self.home.is_at(folder) else stored.Home.new(folder)
            places = home.save(self.description(), self._held)
            with self._lock:
                self._held, self.home = self._held.at(places), home

    def append(self, folder):
        """All its texts to a library, which is made where it is missing; costs what is appended.

        Raises OSError, or ValueError where the library is of another model or kind.
        """
        held = self._held
        stored.append(os.fspath(folder), self.description(), held, held.live.tolist())

    def compact(self):
        """Lets go of forgotten texts for good -> how many. The numbers of the others change.

        Of a library, which is saved first, it writes the segments that hold some again: only then their words
        are in no file any more. Raises OSError.
        """
        if self.home:
            self._save_library(self.home.folder)
        with self._saving, self._lock:
            if self.home:
                count, held = self.home.compact(self.layers)
            else:
                count, held = len(self._held.forgotten), self._held.compact()
            self._held, self.recent = held or self._nothing(), Recent()  # nothing forgotten stays
        return count

    @classmethod
    def load(cls, path, model, layers=()):
        """Reads what `save` wrote, a file or a library, and checks it against `model`, unless that is None.

        `layers`: only these, () is all that it holds. What is read is copied, compared with its checksums,
        and then independent of the file; but with index heads the layers' rows are read when a text is
        recalled. Raises FileNotFoundError, PermissionError, ValueError: damaged, of another kind or version,
        written by another model, without these layers.
        """
        path, layers = os.fspath(path), tuple(sorted(whole_numbers('layer', layers)))
        description, held = stored.read(path, layers, lambda found: origin_read(found, model, layers))
        kept = layers if layers and description['keep'] == 'values' else tuple(description['layers'])
        memory = cls.of({**description, 'layers': kept})
        memory.header, memory._held = tuple(description['header']), held or memory._nothing()
        memory.partly_from = path if set(kept) < set(description['layers']) else ''
        if os.path.isdir(path) and not memory.partly_from:
            memory.home = stored.Home(path, memory.forgotten)
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
