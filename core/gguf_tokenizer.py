"""
The tokenizer in a GGUF file's metadata, as one of the library `tokenizers`.

The keys are those of ggml's docs/gguf.md. A byte-level vocabulary names how a text is cut before its merges
apply (tokenizer.ggml.pre); what each name stands for is documented by llama.cpp's src/llama-vocab.cpp.
"""
import sys
from dataclasses import dataclass

from core.chat import ChatFormat, control_tokens
from core.gguf_fields import wanted

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
NEWER = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3, QWEN2 = (NEWER.replace('DIGITS', digits) for digits in ('{1,3}', ''))
# the expressions that cut a text, one after the other
CUTS = {'gpt-2': (GPT2,), 'gpt2': (GPT2,), 'smollm': (r'\p{N}', GPT2), 'qwen2': (QWEN2,),
        'llama-bpe': (LLAMA3,), 'llama3': (LLAMA3,), 'llama-v3': (LLAMA3,),
        'default': (r'[\p{P}\$\+<=>\^~\|]+', GPT2, r'\p{N}+', '[0-9][0-9][0-9]')}
OF_LLAMA3 = 'llama-bpe', 'llama3', 'llama-v3'
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4  # types of tokens
LONGEST_TOKEN = 4096  # characters; what is longer is no token, and would take long to be taken apart


@dataclass(frozen=True)
class GgufTokenizer:
    """`own` puts no token before a text.

    Where `add_bos`, the model expects `bos_id` there. An id of -1: it has none.
    """
    own: object  # tokenizers.Tokenizer
    bos_id: int
    eos_id: int
    eot_id: int  # ends a turn of a chat
    add_bos: bool
    chat_template: str  # '' is none

    @property
    def end_ids(self):
        """The ids after which nothing follows."""
        return tuple(sorted({self.eos_id, self.eot_id} - {-1}))

    @property
    def chat(self):
        ids = {'bos_token': self.bos_id, 'eos_token': self.eos_id}
        named = {name: self.own.id_to_token(i) for name, i in ids.items() if i >= 0}
        return ChatFormat(self.chat_template, named, control_tokens(self.own), self.end_ids)


def tokenizer_of_gguf(file):
    """GgufFile -> GgufTokenizer.

    Raises ValueError for a tokenizer that is missing, damaged or of another kind.
    """
    kind = wanted(file, 'tokenizer.ggml.model', str)
    if kind not in ('gpt2', 'llama'):
        raise ValueError(f"{file.path!r} has a tokenizer of the kind {kind!r}, expected 'gpt2' (byte-level "
                         "merges) or 'llama' "
                         "(SentencePiece)")
    tokens = texts(file, 'tokenizer.ggml.tokens')
    types = [int(number) for number in numbers(file, 'tokenizer.ggml.token_type', len(tokens), 1)]
    pre = cut_of(file) if kind == 'gpt2' else ''
    try:
        own = byte_level(file, tokens, pre) if kind == 'gpt2' else sentence_piece(file, tokens, types)
        add_whole_tokens(own, tokens, types)
    except ValueError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"the tokenizer in {file.path!r} is none ({' '.join(str(error).split())}): fetch "
                         "the file again") from None
    bos, eos, eot = (token_id(file, name, len(tokens)) for name in ('bos', 'eos', 'eot'))
    add_bos = wanted(file, 'tokenizer.ggml.add_bos_token', bool, kind == 'llama' or pre in OF_LLAMA3)
    template = wanted(file, 'tokenizer.chat_template', str, '')
    return GgufTokenizer(own, bos, eos, eot, add_bos and bos >= 0, template)


# ---- metadata ----

def texts(file, key):
    """A list of different texts; merges are different too."""
    found = wanted(file, key, list)
    if not found or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{file.path!r} has no texts in {key}: it was damaged, or converted in part")
    longest = max(map(len, found))
    if len(set(found)) < len(found) or longest > LONGEST_TOKEN:
        twice = f"one of {longest} characters" if longest > LONGEST_TOKEN else "one twice"
        raise ValueError(f"{file.path!r} has {twice} in {key}: it was damaged, or converted wrongly")
    return found


def numbers(file, key, count, default):
    """An array of as many numbers; where the file has none, all are the default."""
    if key not in file.metadata:
        return [default] * count
    found = file.metadata[key]
    if not hasattr(found, 'dtype') or len(found) != count:
        raise ValueError(f"{file.path!r} has another number of entries in {key} than tokens, {count}: it "
                         "was damaged, or "
                         "converted wrongly")
    return found.tolist()


def token_id(file, name, count):
    key = f'tokenizer.ggml.{name}_token_id'
    found = wanted(file, key, int, -1)
    if not -1 <= found < count:
        raise ValueError(f"{file.path!r} has {found} as {key}, its vocabulary has {count} tokens: it was "
                         "damaged, or converted wrongly")
    return found


def cut_of(file):
    """How texts are cut, a name in CUTS. Raises ValueError for one that is not known here."""
    pre = wanted(file, 'tokenizer.ggml.pre', str, '')
    if not pre:  # as files had it before April 2024; llama.cpp takes its default too, and says so
        pre = 'gpt-2' if file.metadata.get('general.architecture') == 'gpt2' else 'default'
        print(f"note: {file.path!r} does not say how its tokenizer cuts a text, {pre!r} is taken",
              file=sys.stderr)
    if pre not in CUTS:
        raise ValueError(f"{file.path!r} has a tokenizer that cuts texts as {pre!r}, expected one of "
                         f"{', '.join(CUTS)}")
    return pre


# ---- tokenizers of the library ----

def byte_level(file, tokens, pre):
    """Merges of bytes, GPT-2's way."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    merges = [tuple(merge.split(' ')) for merge in texts(file, 'tokenizer.ggml.merges')]
    if not all(len(merge) == 2 for merge in merges):
        raise ValueError(f"{file.path!r} has a merge that is not of two tokens: it was damaged, or "
                         "converted wrongly")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    own = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre in OF_LLAMA3))
    if pre == 'qwen2':
        own.normalizer = normalizers.NFC()  # as Qwen's own, though not llama.cpp, has it
    cuts = [pre_tokenizers.Split(Regex(cut), 'isolated') for cut in CUTS[pre]]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    own.pre_tokenizer = pre_tokenizers.Sequence([*cuts, to_bytes])
    own.decoder = decoders.ByteLevel()
    return own


def sentence_piece(file, tokens, types):
    """Merges of characters by the tokens' scores, bytes for what has no token, spaces as low lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    scores = numbers(file, 'tokenizer.ggml.scores', len(tokens), 0.0)
    prefix = wanted(file, 'tokenizer.ggml.add_space_prefix', bool, True)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    unknown = next((token for token, kind in zip(tokens, types) if kind == UNKNOWN), None)
    merges = merges_of(vocabulary, scores)
    own = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    own.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='first' if prefix else 'never', split=False)
    spaces = [decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse()]
    own.decoder = decoders.Sequence([*spaces, *([decoders.Strip(' ', 1, 0)] if prefix else [])])
    return own


def merges_of(vocabulary, scores):
    """Every way to put a token together from two others: the highest score first, then the longest left."""
    found = []
    for token, i in vocabulary.items():
        for n in range(len(token) - 1, 0, -1):
            if token[:n] in vocabulary and token[n:] in vocabulary:
                found.append((-scores[i], -n, token[:n], token[n:]))
    found.sort(key=lambda merge: merge[:2])
    return [merge[2:] for merge in found]


def add_whole_tokens(own, tokens, types):
    """Tokens that stand for themselves wherever a text holds them.

    Control tokens are special, users' tokens plain text.
    """
    from tokenizers import AddedToken
    for wanted_type, special in ((CONTROL, True), (USER_DEFINED, False)):
        own.add_tokens([AddedToken(token, normalized=False, special=special)
                        for token, kind in zip(tokens, types) if kind == wanted_type and token])
