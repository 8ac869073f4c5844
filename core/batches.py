"""
Batches of training rows from a file of tokens, which may be larger than memory.
"""
import os
from dataclasses import dataclass

import numpy as np
import torch

TOKENS_A_BLOCK = 2**24  # looked through at once, 32 MB: more is no faster


@dataclass(frozen=True)
class Rows:
    """What the rows of a batch are. Fields as the settings of train.py."""

    batch_size: int
    block_size: int
    start_tokens: tuple
    restart_positions: float
    restart_after: int
    seed: int


class Batches:
    """Batches of one split, drawn by step number: a resumed run sees what an uninterrupted one would.

    path: a file of uint16 token ids. Raises FileNotFoundError, or ValueError for what is no such file, for
    one too short, or for ids that a model of vocab_size does not embed. Touches the disk at each call.
    """

    def __init__(self, path, split, rows, vocab_size):
        self.rows, self.is_train = rows, split == 'train'
        self.tokens = open_tokens(path)
        highest, self.starts = look_through(self.tokens, rows.start_tokens)
        if rows.start_tokens:
            self.starts = self.starts[self.starts + rows.block_size < len(self.tokens)]
        places = len(self.starts) if rows.start_tokens else max(0, len(self.tokens) - rows.block_size)
        if places == 0:
            raise ValueError(f"{path} holds {len(self.tokens)} tokens, too few for one row of "
                             f"{rows.block_size} (start_tokens={rows.start_tokens})")
        if highest >= vocab_size:
            raise ValueError(f"{path} holds the token id {highest}, the model's vocabulary is {vocab_size}: "
                             "encode the text with the model's own tokenizer")
        self.places = places

    def get(self, step, device):
        """-> x, targets, positions, each (batch_size, block_size) int64 on the device."""
        rng = np.random.default_rng((self.rows.seed, 0 if self.is_train else 1, step))
        places = rng.integers(0, self.places, self.rows.batch_size)
        starts = self.starts[places].tolist() if self.rows.start_tokens else places.tolist()
        rows = np.stack([self.tokens[i:i + self.rows.block_size + 1] for i in starts]).astype(np.int64)
        restarts = step >= self.rows.restart_after and self.is_train
        pos = self.positions(rows[:, :-1], rng if restarts else None)
        return [torch.from_numpy(part).to(device) for part in (rows[:, :-1], rows[:, 1:], pos)]

    def positions(self, x, rng):
        """0, 1, 2, ... in each row; with rng, some lines begin again at 0.

        A memory was written at positions of its own, which are also the prompt's. A model that has only ever
        seen keys at lower positions than its query's loses its way among them; one that has seen some lines
        begin again does not.
        """
        place = np.broadcast_to(np.arange(x.shape[1]), x.shape)
        if rng is None or not self.rows.start_tokens:
            return place.copy()
        begins = (x == self.rows.start_tokens[-1]) & (rng.random(x.shape) < self.rows.restart_positions)
        return place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)


def open_tokens(path):
    """A file of uint16 -> the numbers in it, left on the disk."""
    if not os.path.isfile(path):
        prepare = os.path.join(os.path.dirname(path), 'prepare.py')
        raise FileNotFoundError(f"no {path}: make it with python {prepare}")
    size_bytes = os.path.getsize(path)
    if size_bytes == 0 or size_bytes % 2:
        raise ValueError(f"{path} holds {size_bytes} bytes, expected token ids of two bytes each (uint16): "
                         "it was cut short or is of another kind, make it again")
    return np.memmap(path, dtype=np.uint16, mode='r')


def look_through(tokens, start_tokens):
    """-> the highest id, and where the last of the start tokens stands behind the others; block by block."""
    before = max(0, len(start_tokens) - 1)
    highest, found = 0, [np.zeros(0, np.int64)]
    for first in range(0, len(tokens), TOKENS_A_BLOCK):
        # matches may lie across the border
        block = np.asarray(tokens[max(0, first - before):first + TOKENS_A_BLOCK])
        highest = max(highest, int(block.max()))
        if start_tokens and len(block) > before:
            ends = len(block) - before
            matches = [block[i:i + ends] == token for i, token in enumerate(start_tokens)]
            found.append(np.flatnonzero(np.all(matches, axis=0)) + max(0, first - before) + before)
    return highest, np.concatenate(found)
