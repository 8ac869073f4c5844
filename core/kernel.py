"""
The compiled products and layers of core/kernel.cpp, for few rows on a CPU; without a compiler torch's.

A C++ compiler is asked once for each processor and source; what it makes is kept in the user's cache folder.
"""
import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

SOURCE = Path(__file__).with_suffix('.cpp')
SOURCES = SOURCE, *sorted(SOURCE.parent.glob('kernel_*.h'))
MOST_ROWS = 16  # from there on torch's product of a matrix is faster
# -ffast-math would make all of the process round small numbers to 0
FLAGS = ('-std=c++17', '-O3', '-march=native', '-fopenmp', '-fPIC', '-shared', '-fno-math-errno',
         '-fno-trapping-math', '-fno-signed-zeros', '-fassociative-math')
GGUF_KINDS = {'Q4_1': 20, 'Q8_0': 34}  # bytes of a block of 32 numbers
KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 3}  # uint8: two numbers of int4


class Weight(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ('numbers', 'scales', 'bias')]
    _fields_ += [(name, ctypes.c_int64) for name in ('kind', 'n_out', 'n_in')]


class Layer(ctypes.Structure):
    _fields_ = [(name, Weight) for name in ('attn', 'proj', 'fc', 'down')]
    _fields_ += [(name, ctypes.c_void_p) for name in ('ln_1', 'ln_1_bias', 'ln_2', 'ln_2_bias', 'q_norm',
                                                      'k_norm')]


class Model(ctypes.Structure):
    _fields_ = [('layers', ctypes.POINTER(Layer)), ('ln_f', ctypes.c_void_p), ('ln_f_bias', ctypes.c_void_p)]
    _fields_ += [(name, ctypes.c_int64) for name in ('n_layer', 'C', 'nh', 'nkv', 'hs', 'inner', 'rms',
                                                     'act')]
    _fields_ += [('epsilon', ctypes.c_float)]


class Rows(ctypes.Structure):
    _fields_ = [('first', ctypes.c_void_p), ('of_batch', ctypes.c_int64), ('of_head', ctypes.c_int64)]

    @classmethod
    def of(cls, x):
        """x (R, heads, rows, hs), whose rows have no gaps, or (1, ...) the same for each of R."""
        return cls(x.data_ptr(), x.stride(0) if len(x) > 1 else 0, x.stride(1))


class Read(ctypes.Structure):
    _fields_ = [(name, Rows) for name in ('k', 'v', 'plain_q', 'plain_k', 'change', 'known', 'stored_keys',
                                          'stored_values')]
    _fields_ += [(name, ctypes.c_void_p) for name in ('heads', 'far_cos', 'far_sin', 'back_cos', 'back_sin')]
    _fields_ += [(name, ctypes.c_int64) for name in ('nh', 'nkv', 'hs', 'M', 'K', 'method', 'header')]
    _fields_ += [(name, ctypes.c_float) for name in ('memory_fraction', 'bookkeeping_fraction', 'scale',
                                                     'residual_fraction', 'longest')]


class Kept(ctypes.Structure):
    _fields_ = [('rows', ctypes.c_void_p), ('size', ctypes.c_int64), ('before', ctypes.c_int64),
                ('read', ctypes.POINTER(Read))]


@functools.lru_cache(maxsize=1)
def library():
    """-> the compiled functions, or None, which stderr says once."""
    try:
        found = ctypes.CDLL(compile_once())
    except (OSError, subprocess.SubprocessError) as error:
        why = ' '.join(str(getattr(error, 'stderr', None) or error).split())[:150]
        print(f"{SOURCE.name} is not compiled ({why}): torch computes instead, one row takes two to three "
              "times as long, int4 several times; install g++, or name a compiler in CXX", file=sys.stderr)
        return None
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    found.linear.argtypes = [pointer, pointer, count, pointer, ctypes.c_int]
    found.widened.argtypes = [pointer, pointer, ctypes.c_int]
    found.of_gguf.argtypes = [pointer, count, ctypes.c_int, pointer, ctypes.c_int]
    found.step.argtypes = [pointer, count, count, *[pointer] * 5, ctypes.c_int]
    found.read_each.argtypes = [pointer, *[count] * 3, *[pointer] * 3, ctypes.c_int]
    return found


def compile_once():
    """-> path of the shared library. Raises OSError, SubprocessError."""
    name, *arguments = shlex.split(os.environ.get('CXX') or 'g++')
    compiler = shutil.which(name)
    if compiler is None:
        raise OSError(f"there is no {name}")
    stamp = os.stat(compiler).st_mtime_ns
    made_of = [path.read_bytes() for path in SOURCES], FLAGS, compiler, arguments, stamp, processor()
    key, folder = digest(repr(made_of).encode()), Path(cache_folder())
    for path in folder.glob(f'{key}-*.so'):
        if path.stem == f'{key}-{digest(path.read_bytes())}':
            return str(path)
        path.unlink()  # cut short: to load it would end the process
    with tempfile.TemporaryDirectory(dir=folder) as own:  # whole or not at all, whoever else compiles it
        made = Path(own, 'made.so')
        subprocess.run([compiler, *arguments, *FLAGS, '-o', made, SOURCE], check=True, capture_output=True,
                       text=True, timeout=120)
        path = folder / f'{key}-{digest(made.read_bytes())}.so'
        os.replace(made, path)
    return str(path)


def digest(content):
    return hashlib.sha256(content).hexdigest()[:32]


def cache_folder():
    """The user's own, that nobody else can write to; else one that lasts as long as the process."""
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    folder = os.path.join(base, 'persistent-memory')
    with contextlib.suppress(OSError):
        if os.path.isabs(folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            of, me = os.stat(folder), getattr(os, 'getuid', lambda: None)()
            mine = me is None or of.st_uid == me and not of.st_mode & 0o022
            if mine and os.access(folder, os.W_OK):
                return folder
    return of_process().name


@functools.lru_cache(maxsize=1)
def of_process():
    return tempfile.TemporaryDirectory()


def processor():
    """What -march=native depends on."""
    try:
        with open('/proc/cpuinfo') as f:
            names = 'model name', 'flags', 'Features', 'CPU part'
            return sorted({line for line in f if line.startswith(names)})
    except OSError:
        return platform.processor()


def floats(*sizes):
    """What C++ fills, whatever torch's defaults are."""
    return torch.empty(*sizes, dtype=torch.float32, device='cpu')


def takes(layer):
    """Whether a Linear's weight lies as it is read here; who put another there may have it otherwise."""
    weight = layer.weight
    return weight.device.type == 'cpu' and weight.dtype in KINDS and weight.is_contiguous()


def weight_of(layer):
    """A core.packed.Linear -> Weight, and what keeps its bias alive."""
    bias = None if layer.bias is None else layer.bias.detach().float()
    parts = (None if one is None else one.data_ptr() for one in (layer.weight, layer.scales, bias))
    return Weight(*parts, KINDS[layer.weight.dtype], layer.out_features, layer.in_features), bias


def linear(layer, x):
    """x (R, in) -> (R, out) float32."""
    x, y = x.float().contiguous(), floats(len(x), layer.out_features)
    weight, _bias = weight_of(layer)
    library().linear(ctypes.byref(weight), x.data_ptr(), len(x), y.data_ptr(), torch.get_num_threads())
    return y


def widened(layer):
    """The weight of a Linear in int8 or int4, in bfloat16 (out, in)."""
    y = torch.empty(layer.out_features, layer.in_features, dtype=torch.bfloat16, device='cpu')
    library().widened(ctypes.byref(weight_of(layer)[0]), y.data_ptr(), torch.get_num_threads())
    return y


def of_gguf(blocks, kind):
    """Bytes of a GGUF file, uint8 (n,) of a type in GGUF_KINDS -> numbers float32, or None: not compiled."""
    if kind not in GGUF_KINDS or library() is None:
        return None
    n = len(blocks) // GGUF_KINDS[kind]
    y = floats(n * 32)
    library().of_gguf(blocks.ctypes.data, n, kind == 'Q4_1', y.data_ptr(), torch.get_num_threads())
    return y
