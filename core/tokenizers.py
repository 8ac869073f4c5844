"""
Text to token ids and back: OpenAI's byte-pair encoding, and the tokenizer that a model's folder brings.

A vocabulary that a model or a data set brings is used, or refused by name; that GPT-2's takes the place of
one that is missing is said on stderr.
"""
import fnmatch
import hashlib
import json
import os
import sys

import torch

from core import gguf_file, gguf_tokenizer
from core.chat import ChatFormat, chat_of_folder, chat_turn
from core.model_files import OF_OPENAI, check_file, folder_of_tokenizer, read_json

# the sha256 of GPT-2's 50257 tokens, see name_of
GPT2_VOCABULARY = '140f02bb05c0d82c'
GPT2_SIZE = 50257
LARGEST_PADDED = 51200  # as trainers pad GPT-2's vocabulary, or add tokens; a larger one is another
USED = ('tokenizer.json', 'vocab.json', 'merges.txt', 'tokenizer_config.json', 'special_tokens_map.json',
        'added_tokens.json', 'chat_template.jinja')
BESIDE = ('generation_config.json',)  # of the model's files, one that says where a text ends
# files of tokenizers that are not read here; one of them alone says that the vocabulary is not GPT-2's
FOREIGN = ('vocab.json', 'vocab.txt', 'merges.txt', '*.model', '*.tiktoken', '*.bpe', 'encoder.json',
           'tekken.json', 'tokenizer*.json', 'added_tokens.json', 'special_tokens_map.json')
NO_CHAT = ChatFormat()


class Tokenizer:
    """
    encode(text) -> list of ids, decode(ids) -> text.

    `name` is kept in memory files, see name_of; `old_names` are those that earlier versions kept for it.
    `n_vocab`: its ids are those below, but for `gaps`. `chat`: its ChatFormat; `spans` as encode_spans, for
    one with a template.
    """

    def __init__(self, name, n_vocab, encode, decode, old_names=(), gaps=(), chat=NO_CHAT, spans=None):
        self.name, self.n_vocab, self._encode, self._decode = name, n_vocab, encode, decode
        self.old_names, self.gaps, self.chat, self._spans = old_names, frozenset(gaps), chat, spans

    def encode(self, text):
        """Raises ValueError for an empty text, one that is not Unicode, or one that has no tokens."""
        check_unicode(text)
        ids = self._encode(text)
        if not ids:
            raise ValueError("the text is empty: give at least one character")
        return ids

    def encode_spans(self, text):
        """-> ids, and of each the (first, end) characters that it stands for. Raises as encode."""
        check_unicode(text)
        return self._spans(text)

    def decode(self, ids):
        """Ids that it does not know (a padded vocabulary has some) come out as the replacement character."""
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


def check_unicode(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds bytes that are not UTF-8: write it in UTF-8") from None


def name_of(vocabulary):
    """{token: id} -> a name that depends on nothing else: not on the file it is in, nor its settings."""
    tokens = json.dumps(sorted(vocabulary.items(), key=lambda item: item[1])).encode()
    digest = hashlib.sha256(tokens).hexdigest()[:16]
    return 'gpt2' if digest == GPT2_VOCABULARY else f'vocabulary {digest}'


# ---- which tokenizer a model has ----

def tokenizer_of_model(source, vocab_size):
    """A folder or hub name, and the vocabulary of its model -> Tokenizer.

    Raises ValueError, OSError kinds.
    """
    own = own_tokenizer(source)
    if own:
        return fitting(own, vocab_size, source)
    is_openais = source in OF_OPENAI and not os.path.isdir(source)
    return gpt2_tokenizer(vocab_size, '' if is_openais else f"no tokenizer beside {source!r}")


def own_tokenizer(source):
    """The Tokenizer that a folder, hub name or GGUF file brings, None for OpenAI's and where is none."""
    if gguf_file.is_named(source):
        found = gguf_tokenizer.tokenizer_of_gguf(gguf_file.read_gguf(gguf_file.path_of(source)))
        return from_library(found.own, [], found.chat)
    folder = folder_of_tokenizer(source, lambda name: name in (*USED, *BESIDE) or is_foreign(name))
    return tokenizer_of_folder(folder) if folder else None


def fitting(tokenizer, vocab_size, source):
    if tokenizer.n_vocab > vocab_size:
        raise ValueError(f"the tokenizer of {source!r} has ids up to {tokenizer.n_vocab - 1}, the model "
                         f"embeds {vocab_size} of them: it is another model's, or tokens were added to it "
                         "alone")
    return tokenizer


def gpt2_tokenizer(vocab_size, why=''):
    """OpenAI's byte-pair encoding, for a vocabulary of 50257 or padded. why: is told on stderr."""
    import tiktoken
    if not GPT2_SIZE <= vocab_size <= LARGEST_PADDED:
        raise ValueError(f"the model has a vocabulary of {vocab_size} and no tokenizer.json beside it, nor "
                         f"its data set: GPT-2's has {GPT2_SIZE}, so put the tokenizer.json it was trained "
                         "with into its folder")
    try:
        encoding = tiktoken.get_encoding('gpt2')
    except Exception as error:  # the client raises many types, all for want of a network
        raise FileNotFoundError("GPT-2's vocabulary could not be fetched: connect to the network once, or "
                                "set TIKTOKEN_CACHE_DIR to a folder that holds it "
                                f"[{type(error).__name__}]") from None
    if why:
        print(f"note: {why}, GPT-2's own byte-pair encoding is taken", file=sys.stderr)
    special = {'<|endoftext|>'}
    return Tokenizer('gpt2', encoding.n_vocab, lambda text: encoding.encode(text, allowed_special=special),
                     encoding.decode)


# ---- files of Hugging Face ----

def tokenizer_of_folder(folder):
    """The folder's own Tokenizer, of tokenizer.json or vocab.json and merges.txt; None for no sign of one.

    Raises ValueError for a damaged one, and for one of another format, by name.
    """
    names = os.listdir(folder) if os.path.isdir(folder) else []
    if 'tokenizer.json' in names:
        path = os.path.join(folder, 'tokenizer.json')
        with open(path, 'rb') as f:
            old_name = f'tokenizer.json {hashlib.sha256(f.read()).hexdigest()[:16]}'
        own = with_added_tokens(read_tokenizer(path), folder, names)
        return from_library(own, [old_name], chat_of_folder(own, folder))
    if {'vocab.json', 'merges.txt'} <= set(names):
        own = with_added_tokens(byte_level_bpe(folder, names), folder, names)
        return from_library(own, [], chat_of_folder(own, folder))
    foreign = sorted(name for name in names if is_foreign(name))
    if foreign:
        raise ValueError(f"{folder} has a tokenizer of its own in a format that is not read here "
                         f"({foreign[0]}): save it as tokenizer.json "
                         "(AutoTokenizer.from_pretrained(...).save_pretrained), or with vocab.json and "
                         "merges.txt")
    return None


def is_foreign(name):
    return any(fnmatch.fnmatch(name, pattern) for pattern in FOREIGN)


def read_tokenizer(path):
    """A tokenizer.json -> tokenizers.Tokenizer that neither cuts nor fills up, nor draws lots.

    Raises ValueError, OSError kinds.
    """
    import tokenizers
    check_file(path)
    try:
        own = tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"{path} is no tokenizer ({error}): fetch or save it again") from None
    own.no_truncation()  # training scripts save theirs with the file
    own.no_padding()
    if getattr(own.model, 'dropout', None):
        own.model.dropout = None  # merges left out by chance: other ids for the same text at each call
    return own


def byte_level_bpe(folder, names):
    """vocab.json and merges.txt, as GPT2Tokenizer reads them -> tokenizers.Tokenizer.

    Raises ValueError, OSError kinds.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers
    has_settings = 'tokenizer_config.json' in names
    settings = read_json(os.path.join(folder, 'tokenizer_config.json')) if has_settings else {}
    kind = settings.get('tokenizer_class') or 'GPT2Tokenizer'
    if kind not in ('GPT2Tokenizer', 'GPT2TokenizerFast'):
        raise ValueError(f"{folder} has a {kind} in vocab.json and merges.txt, only GPT2Tokenizer is read "
                         "from those: save it as tokenizer.json")
    paths = [os.path.join(folder, name) for name in ('vocab.json', 'merges.txt')]
    for path in paths:
        check_file(path)
    try:
        vocabulary, merges = models.BPE.read_file(*paths)
        unknown = '<|endoftext|>' if '<|endoftext|>' in vocabulary else None
        own = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"vocab.json and merges.txt in {folder} are no tokenizer ({error}): fetch or save "
                         "them again") from None
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(settings.get('add_prefix_space')))
    own.decoder = decoders.ByteLevel()
    own.add_special_tokens(['<|endoftext|>'] if unknown else [])
    return own


def with_added_tokens(own, folder, names):
    """Adds the tokens that the files beside a vocabulary name, each with the id they give.

    Raises ValueError for another id.
    """
    from tokenizers import AddedToken
    parts = [read_json(os.path.join(folder, name)) if name in names else {} for name in USED[3:6]]
    try:
        wanted, specials = added_tokens(*parts)
        known = {token.content for token in own.get_added_tokens_decoder().values()}
        without_id_last = sorted(wanted.items(), key=lambda item: (item[1][0] is None, item[1][0] or 0))
        for text, (i, options) in without_id_last:
            if text in known and i in (None, own.token_to_id(text)):
                continue
            options = {'normalized': False, **options, 'special': text in specials}
            own.add_tokens([AddedToken(text, **options)])
            if i not in (None, own.token_to_id(text)):
                raise ValueError(f"{folder} gives the added token {text!r} the id {i}, where its vocabulary "
                                 f"leads to {own.token_to_id(text)}: one of its files is another "
                                 "tokenizer's")
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"the added tokens in {folder} are not as transformers saves them ({error}): save "
                         "them again") from None
    return own


def added_tokens(settings, special, added):
    """The contents of three files -> {token: (id or None, options)}, and which of them are special."""
    wanted, specials = {text: (whole(i, text), {}) for text, i in added.items()}, set()
    options = 'lstrip', 'rstrip', 'normalized', 'single_word'
    for i, token in (settings.get('added_tokens_decoder') or {}).items():
        i = whole(int(i) if i.isdecimal() else i, token['content'])  # a text, as JSON's names all are
        wanted[token['content']] = i, {name: token[name] for name in options if name in token}
        specials |= {token['content']} if token.get('special') else set()
    for name, value in [*settings.items(), *special.items()]:
        is_list = name in ('additional_special_tokens', 'extra_special_tokens')
        if name.endswith('_token') and value or is_list:
            if is_list and isinstance(value, dict):
                value = list(value.values())  # {its name in a processor: token}
            for token in value if isinstance(value, list) else [value]:
                text = token['content'] if isinstance(token, dict) else token
                if isinstance(text, str):  # add_bos_token and the like are settings
                    wanted.setdefault(text, (None, {}))
                    specials.add(text)
    return wanted, specials


def whole(i, text):
    if not isinstance(i, int):
        raise TypeError(f"{text!r} has the id {i!r}, which is no whole number")
    return i


def from_library(own, old_names, chat):
    """tokenizers.Tokenizer -> Tokenizer: no tokens are put around a text, special ones are shown."""
    vocabulary = own.get_vocab(with_added_tokens=True)
    n_vocab = max(vocabulary.values(), default=-1) + 1
    is_watched = can_lose(own)
    if is_watched:
        mark_lost(own, n_vocab)

    def encoded(text):
        try:
            found = own.encode(text, add_special_tokens=False)
        except Exception as error:  # the library raises plain Exception
            raise ValueError(f"the tokenizer cannot encode the text ({error}): leave out what it does not "
                             "know") from None
        if is_watched and n_vocab in found.ids:
            start, end = found.offsets[found.ids.index(n_vocab)]
            lost = lost_character(own, text, text[start:end], n_vocab)
            raise ValueError(f"the character {lost!r} is not in the vocabulary of the tokenizer: leave it "
                             "out")
        return found

    def spans(text):
        found = encoded(text)
        return found.ids, found.offsets

    return Tokenizer(name_of(vocabulary), n_vocab, lambda text: encoded(text).ids,
                     lambda ids: own.decode(ids, skip_special_tokens=False), old_names,
                     set(range(n_vocab)) - set(vocabulary.values()), chat, spans)


def can_lose(own):
    """Whether characters can vanish from a text: a BPE without an unknown token leaves out what it has no
    token for, unless it has one for each byte."""
    from tokenizers import models, pre_tokenizers
    model, cut = own.model, own.pre_tokenizer
    if not isinstance(model, models.BPE) or model.unk_token is not None:
        return False  # other models raise
    letters = pre_tokenizers.ByteLevel.alphabet()
    if model.byte_fallback:
        letters = [f'<0x{byte:02X}>' for byte in range(256)]
    elif not cut or any(set(word) - set(letters) for word, _ in cut.pre_tokenize_str('日 é')):
        return True  # its letters are characters
    elif model.continuing_subword_prefix or model.end_of_word_suffix:
        return True  # a letter has other tokens within a word, or at its end
    return any(model.token_to_id(letter) is None for letter in letters)


def mark_lost(own, i):
    """Gives what would vanish the id i, which no token has."""
    from tokenizers import models
    state = json.loads(own.model.__getstate__())
    vocabulary = own.get_vocab(with_added_tokens=False)
    mark = max(vocabulary, key=len, default='') + '\0'  # longer than any token, so none
    state |= {'vocab': {**vocabulary, mark: i}, 'unk_token': mark, 'fuse_unk': False}
    model = models.BPE()
    model.__setstate__(json.dumps(state).encode())
    own.model = model


def lost_character(own, text, place, mark):
    """The first character of `place` that is lost by itself too. Where only some bytes have tokens, the
    library can put the mark behind its place, so then the first of the text."""
    return next((c for c in place[:1] + text if mark in own.encode(c, add_special_tokens=False).ids), place)


def prompt_ids(tokenizer, text, chat=False, system=''):
    """A prompt -> list of ids: of the text as it stands, or with `chat` as a user's turn, see chat_turn."""
    return chat_turn(tokenizer, text, system).ids if chat else tokenizer.encode(text)


def encode_tensor(tokenizer, text, model, chat=False, system=''):
    """As prompt_ids -> ids (1, T) int64 on the model's device.

    Raises ValueError when it is empty or longer than the context.
    """
    ids = prompt_ids(tokenizer, text, chat, system)
    if len(ids) > model.config.block_size:
        raise ValueError(f"the prompt has {len(ids)} tokens, the model's context is "
                         f"{model.config.block_size}: shorten it")
    return torch.tensor([ids], device=model.transformer.wte.weight.device)
