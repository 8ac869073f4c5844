"""
Which weights are these? A hash that tells one model from another, so that a memory is read by the model that
wrote it.
"""
import hashlib

import torch
import xxhash


def fingerprint(parameters):
    """Of every number: parameters, an iterable of (name, tensor) -> 32 hexadecimal digits.

    XXH3, 128 bits: as fast as reading.
    """
    digest = xxhash.xxh3_128()
    for name, p in sorted(parameters, key=lambda named: named[0]):  # whatever order the code makes them in
        digest.update(f'{name} {tuple(p.shape)} {p.dtype} '.encode())
        digest.update(raw(p))
    return digest.hexdigest()


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
    """As memory files of format version 1 name their model: up to 1024 evenly spaced numbers of each
    parameter, rounded to bfloat16.

    Kept to read those files. It misses changes between the samples: a whole head can be another.
    """
    digest = hashlib.sha256()
    for name, p in parameters:
        numbers = p.detach().to_dense().flatten()[::max(1, p.numel() // 1024)][:1024].bfloat16()
        digest.update(f'{name} {tuple(p.shape)}'.encode())
        digest.update(numbers.cpu().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:32]
