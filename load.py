"""
From settings to what the scripts work on: a device, a model with its tokenizer, a memory.
"""
import hashlib
import io
import os
import pickle
import random
import re
import sys

import torch

from memory import PersistentMemory
from model import GPT
from pretrained import read_checkpoint


def pick_device(device):
    """'auto', 'cpu' or 'cuda' (also 'cuda:1') -> a device that exists. Raises ValueError."""
    if device == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    if not re.fullmatch(r'cpu|cuda(:\d+)?', device):
        raise ValueError(f"device is {device!r}, expected 'auto', 'cpu' or 'cuda'")
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but torch finds no CUDA here: take --device=cpu, or install a torch with CUDA")
    return device


def load_model(init_from, out_dir='out', device='auto', dtype='float32', compile=False):
    """-> (GPT, Tokenizer). init_from: a hub name, a folder, or 'resume' for out_dir/ckpt.pt. dtype: of the weights, by name.

    compile: torch.compile of the MLPs, the part that a memory does not touch, on a GPU. On a CPU packed weights are faster than what
    torch.compile makes of them (README, speed): there it only says so. Raises ValueError or FileNotFoundError.
    """
    if dtype not in ('float32', 'bfloat16', 'float16'):
        raise ValueError(f"dtype is {dtype!r}, expected 'float32', 'bfloat16' or 'float16'")
    device = pick_device(device)
    if init_from == 'resume':
        path = os.path.join(out_dir, 'ckpt.pt')
        model = GPT.from_checkpoint(path)
        tokenizer = tokenizer_of_dataset(read_checkpoint(path))
    else:
        model = GPT.from_pretrained(init_from)
        tokenizer = tokenizer_of_folder(init_from) if os.path.isdir(init_from) else tokenizer_of_hub(init_from)
    model.to(device, getattr(torch, dtype))
    model.freeze()
    if compile and device == 'cpu':
        print("compile: not on a CPU, where the packed weights are faster as they are", file=sys.stderr)
    elif compile:
        for block in model.transformer.h:
            block.mlp.compile(dynamic=True)
    return model, tokenizer or gpt2_tokenizer(model.config.vocab_size)


class Tokenizer:
    """encode(text) -> list of ids, decode(ids) -> text; `name` is kept in memory files, `n_vocab` is how many ids it knows."""

    def __init__(self, name, n_vocab, encode, decode):
        self.name, self.n_vocab, self._encode, self._decode = name, n_vocab, encode, decode

    def encode(self, text):
        """Raises ValueError for an empty text, or one that is not Unicode."""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("the text holds bytes that are not UTF-8: write it in UTF-8") from None
        ids = self._encode(text)
        if not ids:
            raise ValueError("the text is empty: give at least one character")
        return ids

    def decode(self, ids):
        """Ids that the tokenizer does not know (a padded vocabulary has some) come out as the replacement character."""
        text, known = [], []
        for i in ids:
            if 0 <= i < self.n_vocab:
                known.append(i)
            else:
                text += [self._decode(known), '\ufffd']
                known = []
        return ''.join([*text, self._decode(known)])


def gpt2_tokenizer(vocab_size):
    """OpenAI's byte-pair encoding, for a vocabulary of 50257 or padded beyond."""
    import tiktoken
    if vocab_size < 50257:
        raise ValueError(f"the model has a vocabulary of {vocab_size} and no tokenizer.json beside it: GPT-2's needs 50257, "
                         "so put the tokenizer.json it was trained with into its folder")
    try:
        encoding = tiktoken.get_encoding('gpt2')
    except Exception as error:  # the client raises many types, all for want of a network
        raise FileNotFoundError("GPT-2's vocabulary could not be fetched: connect to the network once, or set TIKTOKEN_CACHE_DIR "
                                f"to a folder that holds it [{type(error).__name__}]") from None
    return Tokenizer('gpt2', encoding.n_vocab, lambda text: encoding.encode(text, allowed_special={'<|endoftext|>'}), encoding.decode)


def tokenizer_of_folder(folder):
    """The folder's own tokenizer.json, or None."""
    path = os.path.join(folder, 'tokenizer.json')
    if not os.path.isfile(path):
        return None
    import tokenizers
    with open(path, 'rb') as f:
        file = f.read()
    try:
        own = tokenizers.Tokenizer.from_buffer(file)
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"{path} is no tokenizer ({error}): fetch or save it again") from None
    name = f'tokenizer.json {hashlib.sha256(file).hexdigest()[:16]}'
    return Tokenizer(name, own.get_vocab_size(), lambda text: own.encode(text, add_special_tokens=False).ids, own.decode)


def tokenizer_of_hub(name):
    """The tokenizer.json that a hub model brings, or None: for OpenAI's own models, or where there is none."""
    if name.split('/')[-1] in ('gpt2', 'gpt2-medium', 'gpt2-large', 'gpt2-xl', 'distilgpt2'):
        return None
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    path = try_to_load_from_cache(name, 'tokenizer.json')
    if not isinstance(path, str):
        try:
            path = hf_hub_download(name, 'tokenizer.json')
        except Exception:  # the hub's client raises a dozen types for a file that is not there
            return None
    return tokenizer_of_folder(os.path.dirname(path))


def tokenizer_of_dataset(checkpoint):
    """What data/<dataset> of a nanoGPT checkpoint was encoded with: its tokenizer.json, its meta.pkl, or None for GPT-2's."""
    settings = checkpoint.get('config')
    dataset = str(settings.get('dataset', '')) if isinstance(settings, dict) else ''
    folder = os.path.join('data', dataset)
    path = os.path.join(folder, 'meta.pkl')
    if os.path.isfile(os.path.join(folder, 'tokenizer.json')) or not os.path.isfile(path):
        return tokenizer_of_folder(folder)
    meta = plain_pickle(path)
    if not isinstance(meta, dict) or not {'stoi', 'itos'} <= meta.keys():
        raise ValueError(f"{path} holds no 'stoi' and 'itos': it is not nanoGPT's, make it again with its prepare.py")
    return Tokenizer(dataset, len(meta['itos']), lambda text: encode_characters(text, meta['stoi']),
                     lambda ids: ''.join(meta['itos'][i] for i in ids))


def encode_characters(text, stoi):
    for c in text:
        if c not in stoi:
            raise ValueError(f"the character {c!r} is not in the vocabulary of the data set: use only {''.join(stoi)!r}")
    return [stoi[c] for c in text]


def plain_pickle(path):
    """A pickle of plain containers, strings and numbers. One that asks for anything to be imported is refused unread."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    with open(path, 'rb') as f:
        try:
            return Unpickler(io.BytesIO(f.read())).load()
        except Exception as error:  # a damaged pickle can raise nearly anything
            raise ValueError(f"{path} is no plain dictionary of characters ({error}): make it again with nanoGPT's prepare.py") from None


def read_text(text):
    """A text, or the contents of the file named in 'FILE:path'. Raises FileNotFoundError, ValueError."""
    if not text.startswith('FILE:'):
        if os.path.isfile(text):
            raise ValueError(f"{text!r} names a file: write FILE:{text} to read the text from it")
        return text
    path = text[len('FILE:'):]
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no file {path!r}: 'FILE:path' reads a text from a file")
    try:
        with open(path, encoding='utf-8') as f:
            return f.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error.reason} at byte {error.start})") from None


def seed_list(seed, n):
    """n different seeds: `seed`, then those that random.Random(seed) draws below 100,000. 1337 begins with the write-up's five."""
    if not 1 <= n <= 50_000:
        raise ValueError(f"{n} seeds were asked for, expected 1 to 50,000")
    seeds = dict.fromkeys([1337, 2658, 8932, 2179, 9671] if seed == 1337 else [seed])  # keeps their order
    rng = random.Random(seed)
    while len(seeds) < n:
        seeds[rng.randrange(100_000)] = None
    return list(seeds)[:n]


def encode_tensor(tokenizer, text, model):
    """A prompt -> ids (1, T) int64 on the model's device. Raises ValueError when it is empty or longer than the context."""
    ids = tokenizer.encode(text)
    if len(ids) > model.config.block_size:
        raise ValueError(f"the prompt has {len(ids)} tokens, the model's context is {model.config.block_size}: shorten it")
    return torch.tensor([ids], device=model.transformer.wte.weight.device)


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
    if memory.tokenizer not in ('', tokenizer.name):
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
