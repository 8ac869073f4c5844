"""
Which weights are these? A hash that tells one model from another, so that a memory is read by the model that
wrote it.
"""
import hashlib
import math

import torch
import xxhash


class Fingerprint:
    """Of every number of weights that come some rows at a time, sorted by name: XXH3, 128 bits, as fast as
    reading."""

    def __init__(self):
        self.digest = xxhash.xxh3_128()

    def begin(self, name, shape, dtype=torch.float32):
        self.digest.update(f'{name} {tuple(shape)} {dtype} '.encode())

    def add(self, rows):
        """The next of the tensor that was begun last."""
        self.digest.update(raw(rows))

    def hexdigest(self):
        """-> 32 hexadecimal digits."""
        return self.digest.hexdigest()


def fingerprint(parameters):
    """Of parameters, an iterable of (name, tensor) -> 32 hexadecimal digits."""
    found = Fingerprint()
    for name, p in sorted(parameters, key=lambda named: named[0]):  # whatever order the code makes them in
        found.begin(name, p.shape, p.dtype)
        found.add(p)
    return found.hexdigest()


def checksum(tensor):
    """Of one tensor's numbers -> 16 hexadecimal digits."""
    return xxhash.xxh3_64_hexdigest(raw(tensor))


def checksum_of_text(text):
    return xxhash.xxh3_64_hexdigest(text.encode())


def raw(tensor):
    """The bytes of a tensor, without a copy where it lies dense on the CPU."""
    dense = tensor.detach().to_dense().contiguous().cpu()
    return memoryview(dense.reshape(-1).view(torch.uint8).numpy()) if dense.numel() else b''


def sampled_fingerprint(parameters):
    """As memory files of format version 1 name their model: see Sample.

    Kept to read those files. It misses changes between the samples: a whole head can be another.
    """
    samples = []
    for name, p in parameters:
        samples.append(Sample(name, p.shape))
        samples[-1].add(p)
    return of_samples(samples)


def of_samples(samples):
    return hashlib.sha256(b''.join(one.content() for one in samples)).hexdigest()[:32]


class Sample:
    """Of a parameter its name, shape, and up to 1024 evenly spaced numbers, rounded to bfloat16."""

    def __init__(self, name, shape, most=1024):
        self.name, self.shape, count = name, tuple(shape), math.prod(shape)
        self.step, self.seen, self.filled = max(1, count // most), 0, 0
        self.numbers = torch.empty(min(most, count), dtype=torch.bfloat16, device='cpu')

    def add(self, rows):
        """The next rows."""
        rows = rows.detach().to_dense().flatten()
        some = rows[-self.seen % self.step::self.step][:len(self.numbers) - self.filled]
        self.numbers[self.filled:self.filled + len(some)] = some
        self.seen, self.filled = self.seen + rows.numel(), self.filled + len(some)

    def content(self):
        return f'{self.name} {self.shape}'.encode() + self.numbers.view(torch.int16).numpy().tobytes()
