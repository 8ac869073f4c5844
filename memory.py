"""
PersistentMemory: the keys and values that attention kept of remembered texts; written, searched, read, saved and loaded.

Letters as in model.py: nh n_head, hs head size, M stored tokens, K neighbours, N look-ups.
Nothing here knows how a model works: of one it needs `config`, `parameters()`, `fingerprint()`, `keys_values(idx, layers)` and
`check_ids(idx)`.
"""
import contextlib
import json
import math
import os
import pathlib

import faiss
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

from core.atomic import folder_of, whole_files

FORMAT_VERSION = 1
LARGE = 1_000_000  # look-ups times rows, from which FAISS, a head at a time, is behind one product for all heads (bench.py)
PIECE = {'cpu': 2**23, 'gpu': 2**28}  # scores of a search at once, 4 bytes each


class PersistentMemory:
    """
    Remembered texts as rows of keys and values, in every layer the same rows.

    `layers` tuple of the layers kept, `len(memory)` M, `tokens` (M,) int64 the token of each row, -1 where unknown,
    `keys` and `values` {layer: (nh, M, hs) float32}, `texts` one dictionary a text, in order: 'source', 'text' and 'rows',
    `origin` what is known of the model that wrote it, `tokenizer` its name, `bookkeeping_tokens` the positions left out of each text.
    """

    def __init__(self, origin, layers, bookkeeping_tokens=1, tokenizer=''):
        for layer in layers:
            if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < origin['n_layer']:
                raise ValueError(f"layer {layer!r} does not exist: the model's layers are 0 to {origin['n_layer'] - 1}")
        if len(set(layers)) != len(layers) or not layers:
            raise ValueError(f"layers {tuple(layers)}: name at least one layer, and each once")
        if bookkeeping_tokens < 0:
            raise ValueError(f"bookkeeping_tokens is {bookkeeping_tokens}, expected 0 or more positions")
        self.origin, self.bookkeeping_tokens, self.tokenizer = origin, bookkeeping_tokens, tokenizer
        self.layers = tuple(sorted(layers))
        self.n_head, self.head_size = origin['n_head'], origin['head_size']
        self.texts, self.tokens = [], torch.zeros(0, dtype=torch.int64)
        nothing = torch.zeros(self.n_head, 0, self.head_size)
        self._parts = {(kind, layer): [nothing] for kind in ('keys', 'values') for layer in self.layers}
        self._tables = {}  # made from the rows when first asked for, never the truth

    def __len__(self):
        return len(self.tokens)

    def __repr__(self):
        return (f"PersistentMemory({len(self.texts)} texts, {len(self)} tokens, layers {self.layers}, "
                f"{self.n_head} heads of {self.head_size}, written by {self.origin['name']!r})")

    # ---- write ----

    @classmethod
    def from_tokens(cls, model, ids, layers, bookkeeping_tokens=1, source='', text='', tokenizer=''):
        """Runs ids (list of int, the bookkeeping prefix included) once through the plain model and keeps `layers`.

        The first `bookkeeping_tokens` rows are left out, since GPT-2 turns its first position into an attention sink (creation
        method 1 of the write-up is 0, and no prefix). Raises ValueError when ids are empty, longer than the model's context or
        outside its vocabulary. Touches no disk.
        """
        memory = cls(describe(model), layers, bookkeeping_tokens, tokenizer)
        memory.add(model, ids, source, text)
        return memory

    @classmethod
    def from_text(cls, model, text, tokenizer, layers, bookkeeping_tokens=1, source='', prefix='\n'):
        """As from_tokens, of a text; `prefix` is put in front of it when bookkeeping_tokens > 0. `tokenizer` has encode and name."""
        memory = cls(describe(model), layers, bookkeeping_tokens, tokenizer.name)
        memory.add_text(model, text, tokenizer, source, prefix)
        return memory

    def add_text(self, model, text, tokenizer, source='', prefix='\n'):
        """One more text, as in `add`. Surrounding blank space is left out. Raises ValueError when nothing is left."""
        text = text.strip()
        ids = tokenizer.encode(prefix + text if self.bookkeeping_tokens else text) if text else []
        if len(ids) <= self.bookkeeping_tokens:
            raise ValueError(f"the text to remember is empty{' (' + source + ')' if source else ''}: {len(ids)} tokens, of which "
                             f"bookkeeping_tokens={self.bookkeeping_tokens} are left out")
        self.add(model, ids, source, text)

    def add(self, model, ids, source='', text=''):
        """Runs one more text through the plain model, on its own, and appends its rows. Raises as from_tokens, then adds nothing."""
        self.check(model)
        if len(ids) > model.config.block_size:
            name = f"the text {source}" if source else "the text"
            raise ValueError(f"{name} has {len(ids)} tokens, the model's context is {model.config.block_size}: "
                             "split it, and add the parts as texts of their own")
        idx = torch.tensor([list(ids)], dtype=torch.int64, device=next(model.parameters()).device)  # (1, T)
        model.check_ids(idx)
        skip = self.bookkeeping_tokens
        for layer, (keys, values) in model.keys_values(idx, self.layers).items():
            self._parts['keys', layer].append(keys[0, :, skip:].float().cpu().contiguous())
            self._parts['values', layer].append(values[0, :, skip:].float().cpu().contiguous())
        self._add_rows(idx[0, skip:].cpu(), source, text)

    def _add_rows(self, tokens, source, text):
        self.tokens = torch.cat((self.tokens, tokens))
        self.texts.append({'source': source, 'text': text, 'rows': len(tokens)})
        self._tables = {}

    def text_of(self, row):
        """The entry of `texts` that a row belongs to."""
        ends = np.cumsum([text['rows'] for text in self.texts])
        return self.texts[np.searchsorted(ends, row, side='right')]

    @property
    def keys(self):
        return {layer: self._stored('keys', layer) for layer in self.layers}

    @property
    def values(self):
        return {layer: self._stored('values', layer) for layer in self.layers}

    @torch.inference_mode(False)  # what is kept outlasts the call that first asked for it
    def _stored(self, kind, layer):
        """(nh, M, hs), of what was added part by part."""
        parts = self._parts[kind, layer]
        if len(parts) > 1:
            parts[:] = [torch.cat(parts, dim=1)]
        return parts[0]

    # ---- search and read ----

    def search(self, layer, heads, queries, k, metric='l2'):
        """The k stored keys of each look-up's head that are nearest to its query, exactly.

        heads (N,) int64, queries (N, hs); metric 'l2', squared Euclidean distance, least first, or 'product', inner product,
        greatest first. -> distances (N, k) float32 and ids (N, k) int64, rows of the memory, on the device of `queries`.
        Where fewer than k are stored, the rest of ids is -1.
        """
        order = heads.argsort(stable=True)
        distances, ids = self._search(layer, heads[order], queries[order], k, metric)
        back = order.argsort()
        return distances[back], ids[back]

    def _search(self, layer, heads, queries, k, metric='l2'):
        """As `search`, of sorted heads."""
        queries, large = queries.detach().float(), len(heads) * len(self) > LARGE
        counts = heads.bincount(minlength=self.n_head)
        if queries.device.type != 'cpu' or large and counts.max() * self.n_head < 2 * len(heads):
            return self._search_stacked(layer, counts, queries, k, metric)
        return self._search_faiss(layer, counts, queries, k, metric)

    def _search_faiss(self, layer, counts, queries, k, metric):
        """As `search`, of counts (nh,) look-ups in each head: FAISS takes the heads that look up, one after the other.

        It goes through the rows where they lie; a flat index would be a copy of them.
        """
        rows, flat = self._stored('keys', layer).numpy(), queries.numpy()
        found, ids = np.empty((len(flat), k), dtype=np.float32), np.empty((len(flat), k), dtype=np.int64)
        kind, end = faiss.METRIC_L2 if metric == 'l2' else faiss.METRIC_INNER_PRODUCT, 0
        with one_thread():
            for head, count in enumerate(counts.tolist()):
                if count > 0:
                    start, end = end, end + count
                    found[start:end], ids[start:end] = faiss.knn(flat[start:end], rows[head], k, metric=kind)
        found[ids < 0] = np.inf if metric == 'l2' else -np.inf
        return torch.from_numpy(found), torch.from_numpy(ids)

    def _search_stacked(self, layer, counts, queries, k, metric):
        """As `search`, of counts (nh,) look-ups in each head, on any device: one product for all heads, as wide as the busiest."""
        keys = self._table('keys', layer, queries).view(self.n_head, len(self), self.head_size)
        width = counts.max().item()
        asked = (torch.arange(width, device=queries.device) < counts[:, None]).nonzero(as_tuple=True)
        padded = queries.new_zeros(self.n_head, width, self.head_size)
        padded[asked] = queries
        best, ids = padded[..., :0], counts.new_zeros(self.n_head, width, 0)
        piece = max(k, PIECE['cpu' if queries.device.type == 'cpu' else 'gpu'] // max(1, self.n_head * width))
        for first in range(0, len(self), piece):
            some = keys[:, first:first + piece]
            if metric == 'l2':  # the nearest has the greatest 2 q.k - |k|^2
                lengths = self._lengths(layer, queries)[:, :, first:first + piece]
                scores = torch.baddbmm(lengths, padded, some.transpose(1, 2), beta=-1, alpha=2)  # (nh, width, piece)
            else:
                scores = padded @ some.transpose(1, 2)
            scores, at = scores.topk(min(k, some.size(1)))
            if len(self) <= piece:
                best, ids = scores, at
            else:
                best, kept = torch.cat((best, scores), dim=-1).topk(min(k, best.size(-1) + at.size(-1)))
                ids = torch.cat((ids, first + at), dim=-1).gather(-1, kept)
        missing = k - best.size(-1)
        if missing > 0:
            best, ids = F.pad(best, (0, missing), value=-math.inf), F.pad(ids, (0, missing), value=-1)
        best, ids = best[asked], ids[asked]
        return ((queries.square().sum(-1, keepdim=True) - best).clamp(min=0) if metric == 'l2' else best), ids

    def read(self, layer, heads, queries, keys, values, k, method, softmax_scale, residual_fraction):
        """v' for N picked token-heads by methods 1 to 3 of the write-up: search by key, rank by query (Eq. 5), blend.

        heads (N,) int64, sorted; queries, keys, values (N, hs) of the picked tokens themselves.
        -> v' (N, hs), ids (N, K), squared distances (N, K), ranks (N, K) of the stored keys; K = min(k, M).
        """
        distances, ids = self._search(layer, heads, keys, min(k, len(self)))
        rows = self._rows(heads, ids)
        found_keys, found_values = self._table('keys', layer, queries)[rows], self._table('values', layer, values)[rows]  # (N, K, hs)
        if method != 2:  # the token itself is one more candidate
            found_keys, found_values = torch.cat((found_keys, keys[:, None]), 1), torch.cat((found_values, values[:, None]), 1)
        scores = (found_keys @ queries[:, :, None])[..., 0].float() * (softmax_scale / math.sqrt(self.head_size))
        scores[:, :ids.size(1)].masked_fill_(ids < 0, -math.inf)
        ranks = F.softmax(scores, dim=-1).to(values.dtype)  # Eq. 5
        m = (ranks[:, None] @ found_values)[:, 0]
        if method != 1:
            m = m.lerp(values, residual_fraction)
        return m, ids, distances, ranks[:, :ids.size(1)]

    def blend(self, layer, heads, ids, weights):
        """m = sum_n weights_n v_n: heads (N,), ids (N, K), weights (N, K), 0 where the id is -1 -> (N, hs)."""
        table = self._table('values', layer, weights)
        return F.embedding_bag(self._rows(heads, ids), table, per_sample_weights=weights, mode='sum')  # K may be large here

    def _rows(self, heads, ids):
        """heads (N,), ids (N, K) -> rows (N, K) of the tables below; a missing id becomes some row, whose weight is 0."""
        return heads[:, None] * len(self) + ids.clamp(min=0)

    @torch.inference_mode(False)
    def _lengths(self, layer, like):
        """|k|^2 of the keys, (nh, 1, M), with the device and dtype of `like`."""
        key = 'lengths', layer, like.device, like.dtype
        if key not in self._tables:
            self._tables[key] = self._table('keys', layer, like).square().sum(-1).view(self.n_head, 1, len(self))
        return self._tables[key]

    @torch.inference_mode(False)
    def _table(self, kind, layer, like):
        """All heads' rows below each other, (nh * M, hs), with the device and dtype of `like`."""
        key = kind, layer, like.device, like.dtype
        if key not in self._tables:
            self._tables[key] = self._stored(kind, layer).flatten(0, 1).to(like.device, like.dtype)
        return self._tables[key]

    # ---- save and load ----

    def check(self, model):
        """Raises ValueError, naming what differs, unless `model` is the one that wrote this memory."""
        ours = describe(model)
        for field, label in FIELDS.items():
            if self.origin[field] != ours[field]:
                raise ValueError(f"memory was written by {self.origin['name']!r} with {label} {self.origin[field]}, the model is "
                                 f"{ours['name']!r} with {ours[field]}: take that model, or build the memory again with this one "
                                 "(build_memory.py)")

    def check_layers(self, layers):
        """Raises ValueError unless this memory holds all of them."""
        check_held(layers, self.layers)

    def save(self, path):
        """Writes one .safetensors file, whole or not at all, replacing any file of that name. Raises OSError when it cannot."""
        tensors = {f'layers.{layer}.{kind}': self._stored(kind, layer).contiguous() for kind, layer in self._parts}
        metadata = {'format_version': FORMAT_VERSION, 'origin': self.origin, 'tokenizer': self.tokenizer, 'dtype': 'float32',
                    'bookkeeping_tokens': self.bookkeeping_tokens, 'layers': self.layers, 'texts': self.texts}
        with whole_files(folder_of(path)) as beside:
            part = os.path.join(beside, os.path.basename(path))
            save_file({**tensors, 'tokens': self.tokens}, part, {'memory': json.dumps(metadata)})

    @classmethod
    def load(cls, path, model, layers=()):
        """Reads a file that `save` wrote and checks it against `model`. `layers`: only these, () is all that the file holds.

        The rows are mapped, not copied, and read through once to check their numbers. Raises FileNotFoundError, or ValueError that
        says what is wrong: damaged, of another kind or version, written by another model, without these layers.
        """
        if not os.path.isfile(path):
            raise FileNotFoundError(f"no memory file {path!r}: build it with build_memory.py")
        try:
            with safe_open(path, framework='pt') as f:
                metadata = json.loads((f.metadata() or {})['memory'])
                wanted = {'tokens', *(f'layers.{layer}.{kind}' for layer in layers for kind in ('keys', 'values'))}
                tensors = {name: f.get_tensor(name) for name in f.keys() if not layers or name in wanted}
        except (SafetensorError, KeyError, ValueError, OSError, RecursionError) as error:
            raise ValueError(f"{path} is damaged or no memory file ({error}): build it again with build_memory.py") from None
        try:
            check_metadata(metadata)
            check_held(layers, metadata['layers'])
            memory = cls(metadata['origin'], layers or metadata['layers'], metadata['bookkeeping_tokens'], metadata['tokenizer'])
            memory._take(tensors, metadata['texts'])
            memory.check(model)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return memory

    def _take(self, tensors, texts):
        """Becomes the owner of loaded tensors. Raises ValueError when sizes disagree."""
        rows = sum(text['rows'] for text in texts)
        for kind, layer in self._parts:
            shape = self.n_head, rows, self.head_size
            self._parts[kind, layer] = [expect(tensors, f'layers.{layer}.{kind}', shape, torch.float32)]
        self.tokens, self.texts = expect(tensors, 'tokens', (rows,), torch.int64), texts

    @classmethod
    def from_folder(cls, folder, model, tokenizer=None):
        """Imports a memory of the original project, read-only: keyStore/<layer>/<head>.pt and valueStore/<layer>/<head>.pt, each
        (1 + M, hs), the first row minus infinity. Its FAISS files are ignored, its text (one .txt, if there) names the tokens.

        Such a folder does not say which model wrote it, so only the sizes are checked. Raises FileNotFoundError, ValueError.
        """
        origin = describe(model)
        layers = numbered(os.path.join(folder, 'keyStore'))
        if not layers:
            raise FileNotFoundError(f"{folder!r} is a folder without keyStore/<layer>/<head>.pt: name a memory file, or a folder "
                                    "that the original project wrote")
        memory = cls(origin, layers)
        for kind, layer in memory._parts:
            memory._parts[kind, layer] = [old_store(folder, kind, layer, memory.n_head, memory.head_size)]
        rows = {part[0].size(1) for part in memory._parts.values()}
        if len(rows) > 1:
            raise ValueError(f"the stores in {folder!r} hold different numbers of tokens, {sorted(rows)}: the folder is damaged")
        text = ''.join(path.read_text(encoding='utf-8') for path in sorted(pathlib.Path(folder).glob('*.txt'))[:1])
        memory._add_rows(old_tokens(text, tokenizer, rows.pop()), folder, text)
        return memory


@contextlib.contextmanager
def one_thread():
    """A search is microseconds of work, waking a second thread for it can take a thousand times that. torch shares the setting."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def check_held(layers, held):
    """Raises ValueError unless a memory that holds some layers holds all of `layers`."""
    if not set(layers) <= set(held):
        raise ValueError(f"layers {tuple(layers)} cannot read: the memory holds layers {tuple(held)}, "
                         "build it with memory_layers that include those that read")


def expect(tensors, name, shape, dtype):
    """The tensor of that name. Raises ValueError unless it has this shape and dtype, and only finite numbers."""
    tensor = tensors.get(name)
    if tensor is None or tuple(tensor.shape) != shape or tensor.dtype != dtype:
        given = 'missing' if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"
        raise ValueError(f"damaged, {name} is {given}, expected {shape} {dtype}: build it again with build_memory.py")
    if tensor.numel() > 0 and not torch.stack(tensor.aminmax()).isfinite().all():
        raise ValueError(f"damaged, {name} holds numbers that are not finite: build it again with build_memory.py")
    return tensor


def check_metadata(metadata):
    """Raises ValueError unless a file's metadata has each field that `save` writes, of its kind."""
    if not isinstance(metadata, dict) or metadata.get('format_version') != FORMAT_VERSION:
        version = metadata.get('format_version') if isinstance(metadata, dict) else None
        raise ValueError(f"format version {version}, this program reads {FORMAT_VERSION}: build it again with build_memory.py")

    def is_count(value):
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0

    def has(fields, of, check):
        return isinstance(of, dict) and all(check(of.get(field)) for field in fields)

    texts, layers = metadata.get('texts'), metadata.get('layers')
    fits = (has(('n_layer', 'n_head', 'head_size', 'vocab_size'), metadata.get('origin'), is_count)
            and has(('name', 'fingerprint'), metadata['origin'], lambda value: isinstance(value, str))
            and is_count(metadata.get('bookkeeping_tokens')) and isinstance(metadata.get('tokenizer'), str)
            and metadata.get('dtype') == 'float32' and isinstance(layers, list) and isinstance(texts, list)
            and all(has(('rows',), text, is_count) for text in texts)
            and all(has(('source', 'text'), text, lambda value: isinstance(value, str)) for text in texts))
    if not fits:
        raise ValueError("damaged, its description lacks a field or has one of another kind: build it again with build_memory.py")


FIELDS = {'n_head': 'n_head', 'head_size': 'head size', 'n_layer': 'n_layer', 'vocab_size': 'vocabulary',
          'fingerprint': 'weights of fingerprint'}


def describe(model):
    """What a memory keeps of the model that wrote it."""
    c = model.config
    return {'name': c.name, 'n_layer': c.n_layer, 'n_head': c.n_head, 'head_size': c.n_embd // c.n_head,
            'vocab_size': c.vocab_size, 'fingerprint': model.fingerprint()}


def numbered(folder):
    """The numbers that name the folder's entries, sorted; files may end in .pt."""
    if not os.path.isdir(folder):
        return []
    names = [name.removesuffix('.pt') for name in os.listdir(folder)]
    return sorted(int(name) for name in names if name.isdigit())


def old_store(folder, kind, layer, n_head, head_size):
    """One layer of an old folder -> (nh, M, hs) float32, the first row left out."""
    place = os.path.join(folder, {'keys': 'keyStore', 'values': 'valueStore'}[kind], str(layer))
    if numbered(place) != list(range(n_head)):
        raise ValueError(f"{place} holds the heads {numbered(place)}, the model has 0 to {n_head - 1}: "
                         "another model wrote it, or files are missing")
    heads = [old_head(os.path.join(place, f'{head}.pt')) for head in range(n_head)]
    if len({head.shape for head in heads}) > 1 or heads[0].size(1) != head_size:
        raise ValueError(f"{place} holds heads of {[tuple(head.shape) for head in heads][:3]}, expected (tokens, {head_size}) in each: "
                         "another model wrote it, or it is damaged")
    return torch.stack(heads)


def old_head(path):
    """(1 + M, hs) in a file -> (M, hs) float32. The first row is the original's mark of an empty store."""
    try:
        rows = torch.load(path, map_location='cpu', weights_only=True).float()
        rows = rows.reshape(-1, rows.shape[-1])[1:]
    except Exception as error:  # damaged files raise many types
        raise ValueError(f"{path} is damaged or no tensor ({type(error).__name__}): copy the folder again") from None
    if not torch.isfinite(rows).all():
        raise ValueError(f"{path} holds numbers that are not finite below its first row: the folder is damaged")
    return rows


def old_tokens(text, tokenizer, rows):
    """The text's tokens where they are as many as the rows, else -1 for each row."""
    ids = tokenizer.encode(text) if text and tokenizer else []
    return torch.tensor(ids if len(ids) == rows else [-1] * rows, dtype=torch.int64)
