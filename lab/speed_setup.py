"""
What every part of bench.py measures: its settings, models, memories, ways to read, and the machine.
"""
import contextlib
import dataclasses
import os
import platform
import tempfile

import torch
import transformers

from core import gguf_file
from core.gguf_tokenizer import tokenizer_of_gguf
from core.origin import key_heads
from lab.runs import versions
from load import pick_device
from memory import PersistentMemory, describe
from model import GPT
from reader import Reading

TEMPERATURE, TOP_K = 0.8, 200
GGUF = 'model.gguf'  # beside the same weights in Hugging Face's format
EACH, LATE = 'each, method 3', 'last, method 2, one layer'  # names of readings


@dataclasses.dataclass(frozen=True)
class Setup:
    """Settings of bench.py, of the same names, with a device that exists."""
    device: str
    seed: int
    repeats: int
    workloads: list
    stored_tokens: tuple
    contexts: tuple
    curve_tokens: tuple
    memory_layers: tuple
    memory_k: int
    memory_fraction: float
    bookkeeping_fraction: float
    floor_size: int
    peaks: str
    texts: tuple
    index_heads: tuple

    @classmethod
    def of(cls, config):
        given = {field.name: config[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**given, 'device': pick_device(config['device'])})


# ---- models and memories ----

@contextlib.contextmanager
def folder_of_model(name, seed):
    """A folder or hub name; for 'random' and a GGUF file a folder that lasts as long as the block, from which
    Hugging Face's model is loaded as ours is."""
    if name != 'random' and not gguf_file.is_named(name):
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        if name == 'random':
            torch.manual_seed(seed)
            transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(folder)
        else:
            GPT.from_pretrained(name).save_pretrained(folder)
            own = tokenizer_of_gguf(gguf_file.read_gguf(gguf_file.path_of(name))).own
            own.save(os.path.join(folder, 'tokenizer.json'))
            os.symlink(os.path.abspath(gguf_file.path_of(name)), os.path.join(folder, GGUF))
        yield folder


def our_model(folder, setup, dtype='float32'):
    return GPT.from_pretrained(folder, setup.device, getattr(torch, dtype))


def their_model(folder, setup, dtype='float32'):
    """Hugging Face's."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    return model.to(setup.device).eval()


def reading_layers(setup, n_layer):
    """Those named; where the model has fewer layers, its last three but one, as 8 to 10 are of twelve."""
    named = setup.memory_layers
    return tuple(named) if max(named) < n_layer else tuple(range(max(0, n_layer - 4), n_layer - 1)) or (0,)


def readings(setup, n_layer):
    """{name: Reading} of the ways to read that are compared."""
    layers = reading_layers(setup, n_layer)
    common = Reading(layers=layers, k=setup.memory_k, softmax_scale=1.0,
                     memory_fraction=setup.memory_fraction, bookkeeping_fraction=setup.bookkeeping_fraction)
    named = {f'{select}, method {method}': dataclasses.replace(common, method=method, select=select)
             for select in ('each', 'last') for method in (3, 1, 2)}
    late = dataclasses.replace(common, method=2, select='last', layers=layers[1:2] or (0,))
    return {**named, LATE: late, 'method 4': dataclasses.replace(common, method=4)}


def random_memory(model, M, layers, seed):
    """M rows of random numbers: an exact search takes its time whatever they are."""
    origin, g = describe(model), torch.Generator().manual_seed(seed)

    def rows():
        return torch.randn(key_heads(origin), M, origin['head_size'], generator=g)
    return PersistentMemory.from_rows(origin, {layer: (rows(), rows()) for layer in layers})


def random_ids(T, setup):
    """(1, T) of tokens that every vocabulary has."""
    g = torch.Generator().manual_seed(setup.seed)
    return torch.randint(0, 256, (1, T), generator=g).to(setup.device)


# ---- the machine ----

def machine(setup):
    """What the times depend on."""
    name = cpu_name() if setup.device == 'cpu' else torch.cuda.get_device_name()
    return {'device': name, 'cores': os.cpu_count(), 'torch_threads': torch.get_num_threads(),
            'faiss_threads': 1, 'system': platform.system(), **versions()}


def cpu_name():
    with contextlib.suppress(OSError), open('/proc/cpuinfo') as f:
        for line in f:
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()
