"""
Text to token ids and back: OpenAI's byte-pair encoding, a folder's own tokenizer, a data set's characters.

A vocabulary that a model or a data set brings is used, or refused by name; that GPT-2's takes the place of one that
is missing is said on stderr.
"""
import fnmatch
import hashlib
import io
import json
import os
import pickle
import sys

import torch

from core.model_files import OF_OPENAI, check_file, folder_of_tokenizer, read_json

# the sha256 of GPT-2's 50257 tokens, see name_of
GPT2_VOCABULARY = '140f02bb05c0d82c'
GPT2_SIZE = 50257
LARGEST_PADDED = 51200  # GPT-2's vocabulary as trainers pad it, for speed, or add a few tokens: beyond, it is another
USED = ('tokenizer.json', 'vocab.json', 'merges.txt', 'tokenizer_config.json', 'special_tokens_map.json',
        'added_tokens.json')
# files of tokenizers that are not read here; one of them alone says that the vocabulary is not GPT-2's
FOREIGN = ('vocab.json', 'vocab.txt', 'merges.txt', '*.model', '*.tiktoken', '*.bpe', 'encoder.json', 'tekken.json',
           'tokenizer*.json', 'added_tokens.json', 'special_tokens_map.json')


class Tokenizer:
    """
    encode(text) -> list of ids, decode(ids) -> text.

    `name` is kept in memory files, see name_of; `old_names` are those that earlier versions kept for it. `n_vocab`:
    its ids are below it, but for `gaps`.
    """

    def __init__(self, name, n_vocab, encode, decode, old_names=(), gaps=()):
        self.name, self.n_vocab, self._encode, self._decode = name, n_vocab, encode, decode
        self.old_names, self.gaps = old_names, frozenset(gaps)

    def encode(self, text):
        """Raises ValueError for an empty text, one that is not Unicode, or one that has no tokens."""
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
            if 0 <= i < self.n_vocab and i not in self.gaps:
                known.append(i)
            else:
                text += [self._decode(known), '\ufffd']
                known = []
        return ''.join([*text, self._decode(known)])

    def answers_to(self, name):
        """Whether what was written with the tokenizer of this name was written with this one."""
        return name == self.name or name in self.old_names


def name_of(vocabulary):
    """{token: id} -> a name that depends on nothing else: not on the file it comes from, nor on that file's settings."""
    tokens = json.dumps(sorted(vocabulary.items(), key=lambda item: item[1])).encode()
    digest = hashlib.sha256(tokens).hexdigest()[:16]
    return 'gpt2' if digest == GPT2_VOCABULARY else f'vocabulary {digest}'


# ---- which tokenizer a model has ----

def tokenizer_of_model(source, vocab_size):
    """A folder or hub name, and the vocabulary of its model -> Tokenizer. Raises ValueError, OSError kinds."""
    own = own_tokenizer(source)
    if own:
        return fitting(own, vocab_size, source)
    return gpt2_tokenizer(vocab_size, '' if source in OF_OPENAI else f"no tokenizer beside {source!r}")


def tokenizer_of_checkpoint(checkpoint, vocab_size):
    """What the data of a nanoGPT checkpoint was encoded with, else what the model it was finetuned from has."""
    settings = checkpoint.get('config')
    settings = settings if isinstance(settings, dict) else {}
    dataset, begun_from = str(settings.get('dataset', '')), str(settings.get('init_from', 'scratch'))
    folder = os.path.join('data', dataset)
    own = tokenizer_of_folder(folder) or tokenizer_of_characters(folder, vocab_size)
    if not own and begun_from not in ('scratch', 'resume'):
        own = own_tokenizer(begun_from)
    if own:
        return fitting(own, vocab_size, f'the data set {dataset}')
    return gpt2_tokenizer(vocab_size, f"no tokenizer.json and no characters in {folder}")


def own_tokenizer(source):
    """The Tokenizer that a folder or hub name brings, None for OpenAI's models and where it brings none."""
    folder = folder_of_tokenizer(source, lambda name: name in USED or is_foreign(name))
    return tokenizer_of_folder(folder) if folder else None


def fitting(tokenizer, vocab_size, source):
    if tokenizer.n_vocab > vocab_size:
        raise ValueError(f"the tokenizer of {source!r} has ids up to {tokenizer.n_vocab - 1}, the model embeds "
                         f"{vocab_size} of them: it is another model's, or tokens were added to it alone")
    return tokenizer


def gpt2_tokenizer(vocab_size, why=''):
    """OpenAI's byte-pair encoding, for a vocabulary of 50257 or padded beyond. why: a line on stderr says that it is taken."""
    import tiktoken
    if not GPT2_SIZE <= vocab_size <= LARGEST_PADDED:
        raise ValueError(f"the model has a vocabulary of {vocab_size} and no tokenizer.json beside it, nor its data set: "
                         f"GPT-2's has {GPT2_SIZE}, so put the tokenizer.json it was trained with into its folder")
    try:
        encoding = tiktoken.get_encoding('gpt2')
    except Exception as error:  # the client raises many types, all for want of a network
        raise FileNotFoundError("GPT-2's vocabulary could not be fetched: connect to the network once, or set TIKTOKEN_CACHE_DIR "
                                f"to a folder that holds it [{type(error).__name__}]") from None
    if why:
        print(f"note: {why}, GPT-2's own byte-pair encoding is taken", file=sys.stderr)
    return Tokenizer('gpt2', encoding.n_vocab, lambda text: encoding.encode(text, allowed_special={'<|endoftext|>'}),
                     encoding.decode)


# ---- files of Hugging Face ----

def tokenizer_of_folder(folder):
    """The folder's own Tokenizer, of tokenizer.json or of vocab.json and merges.txt, or None where there is no sign of one.

    Raises ValueError for a damaged one, and for one of another format, by name.
    """
    names = os.listdir(folder) if os.path.isdir(folder) else []
    if 'tokenizer.json' in names:
        path = os.path.join(folder, 'tokenizer.json')
        with open(path, 'rb') as f:
            old_name = f'tokenizer.json {hashlib.sha256(f.read()).hexdigest()[:16]}'
        return from_library(with_added_tokens(read_tokenizer(path), folder, names), [old_name])
    if {'vocab.json', 'merges.txt'} <= set(names):
        return from_library(with_added_tokens(byte_level_bpe(folder, names), folder, names), [])
    foreign = sorted(name for name in names if is_foreign(name))
    if foreign:
        raise ValueError(f"{folder} has a tokenizer of its own in a format that is not read here ({foreign[0]}): save it as "
                         "tokenizer.json (AutoTokenizer.from_pretrained(...).save_pretrained), or with vocab.json and merges.txt")
    return None


def is_foreign(name):
    return any(fnmatch.fnmatch(name, pattern) for pattern in FOREIGN)


def read_tokenizer(path):
    """A tokenizer.json -> tokenizers.Tokenizer that neither cuts nor fills up. Raises ValueError, OSError kinds."""
    import tokenizers
    check_file(path)
    try:
        own = tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"{path} is no tokenizer ({error}): fetch or save it again") from None
    own.no_truncation()  # training scripts save theirs with the file
    own.no_padding()
    return own


def byte_level_bpe(folder, names):
    """vocab.json and merges.txt, as GPT2Tokenizer reads them -> tokenizers.Tokenizer. Raises ValueError, OSError kinds."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers
    settings = read_json(os.path.join(folder, 'tokenizer_config.json')) if 'tokenizer_config.json' in names else {}
    kind = settings.get('tokenizer_class') or 'GPT2Tokenizer'
    if kind not in ('GPT2Tokenizer', 'GPT2TokenizerFast'):
        raise ValueError(f"{folder} has a {kind} in vocab.json and merges.txt, only GPT2Tokenizer is read from those: save it "
                         "as tokenizer.json")
    paths = [os.path.join(folder, name) for name in ('vocab.json', 'merges.txt')]
    for path in paths:
        check_file(path)
    try:
        vocabulary, merges = models.BPE.read_file(*paths)
        unknown = '<|endoftext|>' if '<|endoftext|>' in vocabulary else None
        own = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"vocab.json and merges.txt in {folder} are no tokenizer ({error}): fetch or save them again") from None
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(settings.get('add_prefix_space')))
    own.decoder = decoders.ByteLevel()
    own.add_special_tokens(['<|endoftext|>'] if unknown else [])
    return own


def with_added_tokens(own, folder, names):
    """Adds the tokens that the files beside a vocabulary name, each with the id they give. Raises ValueError for another id."""
    from tokenizers import AddedToken
    parts = [read_json(os.path.join(folder, name)) if name in names else {} for name in USED[3:]]
    try:
        wanted, specials = added_tokens(*parts)
        known = {token.content for token in own.get_added_tokens_decoder().values()}
        for text, (i, options) in sorted(wanted.items(), key=lambda item: (item[1][0] is None, item[1][0] or 0)):
            if text in known and i in (None, own.token_to_id(text)):
                continue
            own.add_tokens([AddedToken(text, **{'normalized': False, **options, 'special': text in specials})])
            if i not in (None, own.token_to_id(text)):
                raise ValueError(f"{folder} gives the added token {text!r} the id {i}, where its vocabulary leads to "
                                 f"{own.token_to_id(text)}: one of its files is another tokenizer's")
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"the added tokens in {folder} are not as transformers saves them ({error}): save them again") from None
    return own


def added_tokens(settings, special, added):
    """The contents of three files -> {token: (id or None, options)}, and which of them are special."""
    wanted, specials = {text: (i, {}) for text, i in added.items()}, set()
    options = 'lstrip', 'rstrip', 'normalized', 'single_word'
    for i, token in (settings.get('added_tokens_decoder') or {}).items():
        wanted[token['content']] = int(i), {name: token[name] for name in options if name in token}
        specials |= {token['content']} if token.get('special') else set()
    for name, value in [*settings.items(), *special.items()]:
        if name.endswith('_token') and value or name in ('additional_special_tokens', 'extra_special_tokens'):
            for token in value if isinstance(value, list) else [value]:
                text = token['content'] if isinstance(token, dict) else token
                if isinstance(text, str):  # add_bos_token and the like are settings
                    wanted.setdefault(text, (None, {}))
                    specials.add(text)
    return wanted, specials


def from_library(own, old_names):
    """tokenizers.Tokenizer -> Tokenizer: no tokens are put around a text, special ones are shown."""
    vocabulary = own.get_vocab(with_added_tokens=True)
    n_vocab = max(vocabulary.values(), default=-1) + 1

    def encode(text):
        try:
            return own.encode(text, add_special_tokens=False).ids
        except Exception as error:  # the library raises plain Exception
            raise ValueError(f"the tokenizer cannot encode the text ({error}): leave out what it does not know") from None

    return Tokenizer(name_of(vocabulary), n_vocab, encode, lambda ids: own.decode(ids, skip_special_tokens=False),
                     old_names, set(range(n_vocab)) - set(vocabulary.values()))


# ---- data sets of nanoGPT ----

def vocabulary_of_dataset(folder):
    """How many ids the tokens of a data set can have, by the tokenizer or meta.pkl in its folder; 0 where neither says."""
    own = tokenizer_of_folder(folder)
    if own:
        return own.n_vocab
    meta = read_meta(folder)
    size = meta.get('vocab_size', len(meta.get('itos', ())))
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ValueError(f"{os.path.join(folder, 'meta.pkl')} has the vocab_size {size!r}, expected a whole number")
    return size


def check_dataset(folder, vocab_size, source):
    """Raises ValueError where a data set was encoded with another vocabulary than a model's.

    source: what the model began from, 'scratch' or a folder or hub name, whose tokenizer is then the model's.
    """
    data, meta = tokenizer_of_folder(folder), read_meta(folder)
    if not data:
        if 'itos' in meta and not fits(len(meta['itos']), vocab_size):
            raise ValueError(f"{folder} has a vocabulary of {len(meta['itos'])} (meta.pkl), the model one of {vocab_size}: "
                             "encode the text with the model's own tokenizer")
        return
    fitting(data, vocab_size, folder)
    if source in ('scratch', 'resume'):
        return
    own = own_tokenizer(source)
    name = own.name if own else 'gpt2'
    if name != data.name and (own or vocab_size >= GPT2_SIZE):
        raise ValueError(f"{folder} was encoded with the tokenizer {data.name!r}, {source!r} has {name!r}: encode the "
                         "text with the model's own")


def fits(count, vocab_size):
    """Whether an embedding is of that many tokens, or padded beyond, as some do for speed."""
    return count <= vocab_size <= -(-count // 128) * 128


def tokenizer_files(folder, source):
    """The paths of the tokenizer of a data set, or else of the model that was finetuned on it; [] where both have none."""
    if not tokenizer_of_folder(folder):
        folder = '' if source in ('scratch', 'resume') else folder_of_tokenizer(source, USED.__contains__)
    paths = [os.path.join(folder, name) for name in USED] if folder else []
    return [path for path in paths if os.path.isfile(path)]


def read_meta(folder):
    """What nanoGPT's prepare.py leaves beside the tokens, {} where there is no meta.pkl. Raises ValueError, OSError kinds."""
    path = os.path.join(folder, 'meta.pkl')
    if not os.path.lexists(path):
        return {}
    meta = plain_pickle(path)
    if not isinstance(meta, dict) or not ({'stoi', 'itos'} <= meta.keys() or 'vocab_size' in meta):
        raise ValueError(f"{path} holds neither 'stoi' and 'itos' nor 'vocab_size': it is not nanoGPT's, make it again with "
                         "its prepare.py")
    return meta


def tokenizer_of_characters(folder, vocab_size):
    """The characters in a data set's meta.pkl, None where it has no such file, or one for GPT-2's encoding."""
    meta, path = read_meta(folder), os.path.join(folder, 'meta.pkl')
    if not {'stoi', 'itos'} <= meta.keys():
        if meta and vocab_size < GPT2_SIZE:
            raise ValueError(f"{path} holds a vocab_size ({meta['vocab_size']}), but no characters ('stoi' and 'itos'), and "
                             f"GPT-2's encoding has {GPT2_SIZE} ids: put the tokenizer.json of the data beside it")
        return None
    stoi = meta['stoi']
    check_characters(stoi, meta['itos'], path)
    if not fits(len(stoi), vocab_size):
        raise ValueError(f"{path} holds {len(stoi)} characters, the model has a vocabulary of {vocab_size}: it was trained on "
                         "other data, or with another tokenizer")
    characters = {i: c for c, i in stoi.items()}
    return Tokenizer(name_of(stoi), max(characters) + 1, lambda text: encode_characters(text, stoi),
                     lambda ids: ''.join(characters[i] for i in ids), [os.path.relpath(folder, 'data')],
                     set(range(max(characters))) - characters.keys())


def check_characters(stoi, itos, path):
    """Raises ValueError unless stoi {character: id} and itos {id: character} are each other's inverse."""
    try:
        same = stoi and all(itos[i] == c and i >= 0 for c, i in stoi.items()) and len(itos) == len(stoi)
    except (TypeError, KeyError, IndexError, AttributeError):
        same = False
    if not same:
        raise ValueError(f"'stoi' and 'itos' in {path} do not undo each other: make it again with nanoGPT's prepare.py")
    words = [word for word in stoi if not isinstance(word, str) or len(word) != 1]
    if words:
        raise ValueError(f"{path} holds words ({words[0]!r}), only a vocabulary of single characters can be read: put a "
                         "tokenizer.json beside it")


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

    check_file(path)
    with open(path, 'rb') as f:
        content = f.read()
    try:
        return Unpickler(io.BytesIO(content)).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"{path} is no plain dictionary of characters ({error}): make it again with nanoGPT's prepare.py") from None


def encode_tensor(tokenizer, text, model):
    """A prompt -> ids (1, T) int64 on the model's device. Raises ValueError when it is empty or longer than the context."""
    ids = tokenizer.encode(text)
    if len(ids) > model.config.block_size:
        raise ValueError(f"the prompt has {len(ids)} tokens, the model's context is {model.config.block_size}: shorten it")
    return torch.tensor([ids], device=model.transformer.wte.weight.device)
