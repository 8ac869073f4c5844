"""
Text to token ids and back: OpenAI's byte-pair encoding, a folder's own tokenizer.json, a data set's characters.
"""
import hashlib
import io
import os
import pickle

import torch


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


def encode_tensor(tokenizer, text, model):
    """A prompt -> ids (1, T) int64 on the model's device. Raises ValueError when it is empty or longer than the context."""
    ids = tokenizer.encode(text)
    if len(ids) > model.config.block_size:
        raise ValueError(f"the prompt has {len(ids)} tokens, the model's context is {model.config.block_size}: shorten it")
    return torch.tensor([ids], device=model.transformer.wte.weight.device)
