"""
From settings to what the scripts work on: a device, a model with its tokenizer, a memory.
"""
import os
import re
import sys

import torch

from core.datasets import tokenizer_of_checkpoint
from core.sampling import seed_list  # noqa: F401
from core.texts import read_text
from core.tokenizers import (  # noqa: F401, some are for those who import them from here
    Tokenizer,
    encode_tensor,
    gpt2_tokenizer,
    tokenizer_of_folder,
    tokenizer_of_model,
)
from core.weights import read_checkpoint
from memory import PersistentMemory
from model import GPT


def pick_device(device):
    """'auto', 'cpu' or 'cuda' (also 'cuda:1') -> a device that exists. Raises ValueError."""
    if device == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    if not re.fullmatch(r'cpu|cuda(:\d+)?', device):
        raise ValueError(f"device is {device!r}, expected 'auto', 'cpu' or 'cuda'")
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but torch finds no CUDA here: take --device=cpu, or install a "
                         "torch with CUDA")
    number, count = int(device.partition(':')[2] or 0), torch.cuda.device_count()
    if device.startswith('cuda') and number >= count:
        raise ValueError(f"device is {device!r}, but torch finds {count} here: give cuda:0 to "
                         f"cuda:{count - 1}")
    return device


def load_model(init_from, out_dir='out', device='auto', dtype='float32', compile=False):
    """-> (GPT, Tokenizer). init_from: a hub name, a folder, or 'resume' for out_dir/ckpt.pt. dtype: by name.

    compile: torch.compile of the MLPs, the part that a memory does not touch, on a GPU. On a CPU packed
    weights are faster than what torch.compile makes of them (README, speed): there it only says so. Where
    GPT-2's tokenizer is taken for want of another, a line on stderr says so. Raises ValueError, OSError kinds.
    """
    if dtype not in ('float32', 'bfloat16', 'float16'):
        raise ValueError(f"dtype is {dtype!r}, expected 'float32', 'bfloat16' or 'float16'")
    device = pick_device(device)
    if init_from == 'resume':
        path = os.path.join(out_dir, 'ckpt.pt')
        model = GPT.from_checkpoint(path, device, getattr(torch, dtype))
        tokenizer = tokenizer_of_checkpoint(read_checkpoint(path), model.config.vocab_size)
    else:
        model = GPT.from_pretrained(init_from, device, getattr(torch, dtype))
        tokenizer = tokenizer_of_model(init_from, model.config.vocab_size)
    if compile and device == 'cpu':
        print("compile: not on a CPU, where the packed weights are faster as they are", file=sys.stderr)
    elif compile:
        for block in model.transformer.h:
            block.mlp.compile(dynamic=True)
    return model, tokenizer


def open_memory(model, tokenizer, config):
    """The memory that the settings name, attached to the model as they say; None where they name no memory or no layer.

    A memory_file that exists is loaded (a folder in the original project's layout is imported); else it is built from memory_text
    and saved; a text without a file is remembered for this run. Raises FileNotFoundError that says how to build what is missing.
    """
    path, text, layers = config['memory_file'], config['memory_text'], config['memory_layers']
    if not layers or not path and not text:
        return None
    if os.path.exists(path):
        memory = load_memory(path, text, model, tokenizer, layers)
        attach(model, memory, config)
        return memory
    if not text:
        raise FileNotFoundError(f"no memory {path!r}: build it with python build_memory.py --text=FILE:your.txt --memory_file={path} "
                                f"--memory_layers={','.join(map(str, layers))} --init_from={config['init_from']}")
    source = text if text.startswith('FILE:') else ''
    memory = PersistentMemory.from_text(model, read_text(text), tokenizer, layers, config['bookkeeping_tokens'], source)
    attach(model, memory, config)  # before it is saved: a setting that does not fit leaves no file
    if path:
        memory.save(path)
    return memory


def load_memory(path, text, model, tokenizer, layers=()):
    """A memory file (of it these layers, () is all) or old folder.

    Raises ValueError when it is of another tokenizer, or of another text than `text` (not '').
    """
    if os.path.isdir(path):
        return PersistentMemory.from_folder(path, model, tokenizer)
    memory = PersistentMemory.load(path, model, layers)
    if memory.tokenizer and not tokenizer.answers_to(memory.tokenizer):
        raise ValueError(f"{path} was written with the tokenizer {memory.tokenizer!r}, the model has {tokenizer.name!r}: "
                         "build it again with build_memory.py")
    if text and read_text(text).strip() not in [entry['text'] for entry in memory.texts]:
        raise ValueError(f"{path} holds another text than memory_text: remove the file to have it built again, or name another")
    return memory


def attach(model, memory, config):
    """model.attach_memory with the settings of a script."""
    model.attach_memory(memory, layers=config['memory_layers'], heads=config['memory_heads'], k=config['memory_k'],
                        method=config['memory_method'], memory_fraction=config['memory_fraction'],
                        bookkeeping_fraction=config['bookkeeping_fraction'], softmax_scale=config['softmax_scale'],
                        residual_fraction=config['residual_fraction'], select=config['memory_select'])
