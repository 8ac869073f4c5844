"""
What a data set of nanoGPT was encoded with: a tokenizer in its folder, or the characters in its meta.pkl.
"""
import io
import os
import pickle

from core.model_files import check_file, folder_of_tokenizer
from core.places import found
from core.tokenizers import (
    GPT2_SIZE,
    USED,
    Tokenizer,
    fitting,
    gpt2_tokenizer,
    name_of,
    own_tokenizer,
    tokenizer_of_folder,
)


def folder_of_dataset(dataset):
    """data/<dataset>, or the folder itself where its path is absolute or in the home folder (~)."""
    return found(os.path.join('data', os.path.expanduser(dataset)))


def tokenizer_of_checkpoint(checkpoint, vocab_size):
    """What the data of a nanoGPT checkpoint was encoded with, else what the model that it began from has."""
    settings = checkpoint.get('config')
    settings = settings if isinstance(settings, dict) else {}
    dataset, begun_from = str(settings.get('dataset', '')), str(settings.get('init_from', 'scratch'))
    folder = folder_of_dataset(dataset)
    own = tokenizer_of_folder(folder) or tokenizer_of_characters(folder, vocab_size)
    if not own and begun_from not in ('scratch', 'resume'):
        own = own_tokenizer(begun_from)
    if own:
        return fitting(own, vocab_size, f'the data set {dataset}')
    return gpt2_tokenizer(vocab_size, f"no tokenizer.json and no characters in {folder}")


def vocabulary_of_dataset(folder):
    """How many ids a data set can have, by the tokenizer or meta.pkl in its folder; 0 where neither says."""
    own = tokenizer_of_folder(folder)
    if own:
        return own.n_vocab
    meta = read_meta(folder)
    size = meta.get('vocab_size', len(meta.get('itos', ())))
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ValueError(f"{os.path.join(folder, 'meta.pkl')} has the vocab_size {size!r}, expected a whole "
                         "number")
    return size


def check_dataset(folder, vocab_size, source):
    """Raises ValueError where a data set was encoded with another vocabulary than a model's.

    source: what the model began from, 'scratch' or a folder or hub name, whose tokenizer is the model's.
    """
    data, meta = tokenizer_of_folder(folder), read_meta(folder)
    if not data:
        if 'itos' in meta and not fits(len(meta['itos']), vocab_size):
            raise ValueError(f"{folder} has a vocabulary of {len(meta['itos'])} (meta.pkl), the model one "
                             f"of {vocab_size}: encode the text with the model's own tokenizer")
        return
    fitting(data, vocab_size, folder)
    if source in ('scratch', 'resume'):
        return
    own = own_tokenizer(source)
    name = own.name if own else 'gpt2'
    if name != data.name and (own or vocab_size >= GPT2_SIZE):
        raise ValueError(f"{folder} was encoded with the tokenizer {data.name!r}, {source!r} has {name!r}: "
                         "encode the text with the model's own")


def fits(count, vocab_size):
    """Whether an embedding is of that many tokens, or padded beyond, as some do for speed."""
    return count <= vocab_size <= -(-count // 128) * 128


def tokenizer_files(folder, source):
    """The paths of the tokenizer of a data set, else of the model that it finetunes; [] for neither."""
    if not tokenizer_of_folder(folder):
        folder = '' if source in ('scratch', 'resume') else folder_of_tokenizer(source, USED.__contains__)
    paths = [os.path.join(folder, name) for name in USED] if folder else []
    return [path for path in paths if os.path.isfile(path)]


def read_meta(folder):
    """What nanoGPT's prepare.py leaves beside the tokens, {} where there is no meta.pkl.

    Raises ValueError, OSError kinds.
    """
    path = os.path.join(folder, 'meta.pkl')
    if not os.path.lexists(path):
        return {}
    meta = plain_pickle(path)
    if not isinstance(meta, dict) or not ({'stoi', 'itos'} <= meta.keys() or 'vocab_size' in meta):
        raise ValueError(f"{path} holds neither 'stoi' and 'itos' nor 'vocab_size': it is not nanoGPT's, "
                         "make it again with its prepare.py")
    return meta


def tokenizer_of_characters(folder, vocab_size):
    """The characters in a data set's meta.pkl; None for no such file, or one of GPT-2's encoding."""
    meta, path = read_meta(folder), os.path.join(folder, 'meta.pkl')
    if not {'stoi', 'itos'} <= meta.keys():
        if meta and vocab_size < GPT2_SIZE:
            raise ValueError(f"{path} holds a vocab_size ({meta['vocab_size']}), but no characters ('stoi' "
                             f"and 'itos'), and GPT-2's encoding has {GPT2_SIZE} ids: put the "
                             "tokenizer.json of the data beside it")
        return None
    stoi = meta['stoi']
    check_characters(stoi, meta['itos'], path)
    if not fits(len(stoi), vocab_size):
        raise ValueError(f"{path} holds {len(stoi)} characters, the model has a vocabulary of {vocab_size}: "
                         "it was trained on other data, or with another tokenizer")
    characters = {i: c for c, i in stoi.items()}
    return Tokenizer(name_of(stoi), max(characters) + 1, lambda text: encode_characters(text, stoi),
                     lambda ids: ''.join(characters[i] for i in ids), [folder.rpartition('data' + os.sep)[2]],
                     set(range(max(characters))) - characters.keys())


def check_characters(stoi, itos, path):
    """Raises ValueError unless stoi {character: id} and itos {id: character} are each other's inverse."""
    try:
        same = stoi and all(itos[i] == c and i >= 0 for c, i in stoi.items()) and len(itos) == len(stoi)
    except (TypeError, KeyError, IndexError, AttributeError):
        same = False
    if not same:
        raise ValueError(f"'stoi' and 'itos' in {path} do not undo each other: make it again with nanoGPT's "
                         "prepare.py")
    words = [word for word in stoi if not isinstance(word, str) or len(word) != 1]
    if words:
        raise ValueError(f"{path} holds words ({words[0]!r}), only a vocabulary of single characters can be "
                         "read: put a tokenizer.json beside it")


def encode_characters(text, stoi):
    for c in text:
        if c not in stoi:
            raise ValueError(f"the character {c!r} is not in the vocabulary of the data set: use only "
                             f"{''.join(stoi)!r}")
    return [stoi[c] for c in text]


def plain_pickle(path):
    """A pickle of plain containers, strings and numbers.

    One that asks for anything to be imported is refused unread.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    check_file(path)
    with open(path, 'rb') as f:
        content = f.read()
    try:
        return Unpickler(io.BytesIO(content)).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"{path} is no plain dictionary of characters ({error}): make it again with "
                         "nanoGPT's prepare.py") from None
