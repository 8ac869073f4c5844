"""
Makes the training text of the embedded model: train.bin, val.bin and tokenizer.json beside this file.

$ python data/tinyworld/prepare.py
$ python data/tinyworld/prepare.py --train_documents=1000    # a small one, to try

Documents come from grammar.py by their number, so the same settings give the same bytes. The tokenizer is a
byte-level BPE trained here on the same text; any text encodes with it.
"""
import os
import random
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(here)))

from configurator import configure, one_line_errors  # noqa: E402

# -----------------------------------------------------------------------------
train_documents = 160000
val_documents = 1000
vocab_size = 2048
tokenizer_file = ''  # a tokenizer.json to encode with, as for finetuning; '' trains one of vocab_size
out = here  # folder to write to
seed = 1337
# -----------------------------------------------------------------------------
configure(globals())

import numpy as np  # noqa: E402
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from tqdm import tqdm  # noqa: E402

from core.atomic import whole_files  # noqa: E402
from core.tokenizers import read_tokenizer  # noqa: E402
from data.tinyworld import grammar  # noqa: E402


def documents(first, count):
    """Documents number first to first + count, each by its own generator, an empty line after each."""
    numbers = tqdm(range(first, first + count), 'documents', mininterval=1)
    return [grammar.document(random.Random(f'{seed} {n}')) + '\n' for n in numbers]


def train_tokenizer(texts):
    """Byte-level BPE as GPT-2's, but numbers are cut into pairs of digits: each is a few known tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r" ?\d{1,2}| ?\p{L}+|[\r\n]| ?[^\s\p{L}\d]+|\s+"), 'isolated'),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    # without special tokens the 256 bytes come first, in GPT-2's order: "\n" is 198 here as there
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tokenizer


def open_tokenizer():
    tokenizer = read_tokenizer(tokenizer_file)
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    if size > 65536:
        raise ValueError(f"{tokenizer_file} has {size} tokens, expected 65536 at most: ids are kept in two "
                         "bytes")
    return tokenizer


def encode(tokenizer, texts):
    """-> ids of all texts, one after the other, uint16."""
    try:
        encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"{tokenizer_file} cannot encode the texts ({error}): name another "
                         "tokenizer_file") from None
    return np.concatenate([np.array(encoding.ids, dtype=np.uint16) for encoding in encoded])


def main():
    if min(train_documents, val_documents) < 1 or not 300 <= vocab_size <= 65536:
        raise ValueError(f"train_documents is {train_documents}, val_documents {val_documents}, expected 1 "
                         f"or more; vocab_size is {vocab_size}, expected 300 to 65536")
    tokenizer = open_tokenizer() if tokenizer_file else None
    texts = {'train': documents(0, train_documents), 'val': documents(10**9, val_documents)}
    tokenizer = tokenizer or train_tokenizer(texts['train'][:20000])
    ids = {name: encode(tokenizer, texts[name]) for name in texts}
    with whole_files(out) as beside:  # all or none: tokens mean nothing beside another tokenizer
        tokenizer.save(os.path.join(beside, 'tokenizer.json'), pretty=False)
        for name in ids:
            ids[name].tofile(os.path.join(beside, f'{name}.bin'))
    for name in ids:
        print(f"{name}.bin: {len(texts[name]):,} documents, {len(ids[name]):,} tokens")


if __name__ == '__main__':
    with one_line_errors():
        main()
