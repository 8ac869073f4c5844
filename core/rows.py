"""
Texts on their way through a model: rows of token ids, checked, and batches of like length.
"""
from typing import NamedTuple

import torch

from core.cache import Cache
from core.chat import chat_frame, turn_behind_header
from core.generation import check_ids
from core.windows import WINDOW_TOKENS

TOKENS_A_BATCH = 4096  # of texts that run through the model together, padding included
LONG_HEADER = 8  # so many tokens in front of each text are worth a pass of their own: a chat's are a third


def batches_of_like_length(lengths):
    """-> lists of numbers of texts, of which the longest fills a batch with no more than TOKENS_A_BATCH."""
    order, batches = sorted(range(len(lengths)), key=lambda i: -lengths[i]), []
    while order:
        size = max(1, TOKENS_A_BATCH // max(1, lengths[order[0]]))
        batches, order = [*batches, order[:size]], order[size:]
    return batches


class Header(NamedTuple):
    """What stands in front of a text while it is read: a prefix, or with `chat` the model's chat template up
    to a user's words, with what the system says; and an ending, behind each text and kept with it."""
    prefix: str = '\n'
    chat: bool = False
    system: str = ''
    ending: str = ''

    def text(self, tokenizer):
        return chat_frame(tokenizer, self.system)[0] if self.chat else self.prefix

    def longest_text(self, model, tokenizer, index_heads):
        """The tokens of a text that is not cut, where nothing is said: with index heads those of a window,
        else as many as the model sees."""
        text = self.text(tokenizer)
        around = (tokenizer.encode(text) if text else []), self.ending_ids(tokenizer)
        room = model.config.block_size - sum(map(len, around))
        return min(WINDOW_TOKENS, room) if index_heads else room

    def encode(self, entry, tokenizer, left_out):
        """A text behind it -> ids, and how many of the first are left out. Raises ValueError."""
        text, source = entry['text'], entry['source']
        if self.chat and text:
            ids, first, end = turn_behind_header(tokenizer, text, self.system)
            return [*ids[:first], *self.ended(ids[first:end], text, tokenizer)], first
        prefix = self.prefix if text else ''  # the header stands for what is left out: the text is kept whole
        ids = tokenizer.encode(prefix + text) if text else []
        before = tokenizer.encode(prefix) if prefix else []
        if left_out < len(before) and list(ids[:len(before)]) == list(before):
            left_out = len(before)  # a header of several tokens is left out whole
        if len(ids) <= left_out:
            raise ValueError(f"the text to remember is empty{' (' + source + ')' if source else ''}: "
                             f"{len(ids)} tokens, of which bookkeeping_tokens={left_out} are left out")
        return self.ended(ids, prefix + text, tokenizer), left_out

    def ended(self, ids, text, tokenizer):
        """A text's ids and its ending's, as the tokenizer has both together: some join a full stop and a
        line feed."""
        if not self.ending or list(ids) != list(tokenizer.encode(text)):
            return [*ids, *self.ending_ids(tokenizer)]
        return list(tokenizer.encode(text + self.ending))

    def length_of_ending(self, ids, tokenizer):
        """How many of a text's last ids are its ending's alone."""
        ending = list(self.ending_ids(tokenizer))
        return len(ending) if ending and list(ids[-len(ending):]) == ending else 0

    def ending_ids(self, tokenizer):
        return tokenizer.encode(self.ending) if self.ending else []


def check_length(row, config, source):
    """Raises ValueError unless these ids (T,) are tokens of the model, and no more than its context."""
    if len(row) > config.block_size:
        name = f"the text {source}" if source else "the text"
        raise ValueError(f"{name} has {len(row)} tokens, the model's context is {config.block_size}: "
                         "split it, and add the parts as texts of their own")
    check_ids(row[None], config.vocab_size)


def as_row(ids):
    """A list of int, an array or tensor (T,) or (1, T) -> (1, T) int64. Raises ValueError."""
    idx = torch.as_tensor(ids if hasattr(ids, 'shape') else list(ids))
    if idx.numel() == 0:
        return torch.zeros(1, 0, dtype=torch.int64)
    is_whole = not idx.is_floating_point() and idx.dtype != torch.bool
    if not is_whole or idx.dim() > 2 or idx.dim() == 2 and len(idx) != 1:
        raise ValueError(f"the token ids are {tuple(idx.shape)} {idx.dtype}, "
                         "expected a list of whole numbers, or one row (1, T) of them")
    return idx.reshape(1, -1).to(torch.int64)


KEYS_AND_VALUES, QUERIES = slice(1, 3), slice(0, 1)  # of what a layer's heads make of tokens


def run_together(model, rows, left_out, layers, parts=KEYS_AND_VALUES):
    """Texts, each (T,) ids, through the plain model, those of like length side by side -> of each, as it is
    done, its number and {layer: (keys, values)}, or such other parts, (nh, n, hs) float32, without the first
    rows left_out."""
    device = next(model.parameters()).device
    for batch in batches_of_like_length([len(row) for row in rows]):
        idx = torch.nn.utils.rnn.pad_sequence([rows[i] for i in batch], batch_first=True).to(device)
        cache, h = Cache(idx.size(1)), shared_header(idx, min(left_out[i] for i in batch))
        if h:
            model.heads_of(idx[:1, :h], layers, cache)
            cache.expand(len(batch))
        heads = model.heads_of(idx[:, h:], layers, cache)
        for at, i in enumerate(batch):
            own = slice(left_out[i] - h, len(rows[i]) - h)
            yield i, {layer: tuple(part[at, :, own].float().cpu() for part in made[parts])
                      for layer, made in heads.items()}


def run_again(model, rows, left_out, layers):
    """As run_together, texts that are lists of ids -> [{layer: (keys, values)}], in their order."""
    done = {}
    for i, heads in run_together(model, [torch.tensor(ids) for ids in rows], [left_out] * len(rows), layers):
        # copied: a view of one text would keep the rows of all that ran beside it
        done[i] = {layer: tuple(part.clone() for part in both) for layer, both in heads.items()}
    return [done[i] for i in range(len(rows))]


def shared_header(idx, left_out):
    """How many of the first tokens of idx (B, T) run once for all rows: all left_out, if that saves time."""
    return left_out if left_out >= LONG_HEADER and (idx[:, :left_out] == idx[0, :left_out]).all() else 0
