"""
Rows in fewer bytes: as they are in files and, of index heads, as votes read them.

M rows, hs head size. Of int8 a row is its hs numbers, -127 to 127, and behind them in two bytes the bfloat16
that they are times, so that rows of any size are appended and cut apart without a look at others: each number
is off by half of that at most, 1/254 of the row's largest.
"""
from dataclasses import dataclass

import torch

from core.checks import check_choice

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'int8': torch.int8}
LARGEST = 127  # of int8
SCALE_BYTES = 2
PARTS = 8  # of rows, multiplied beside each other: threads that share one product wait for each other


def check_dtype(dtype, keep):
    check_choice('dtype', dtype, tuple(DTYPES))
    if dtype == 'int8' and keep != 'tokens':
        raise ValueError("dtype is 'int8', which keys of index heads alone can be: take 'bfloat16', or keep "
                         "'tokens'")


def width(dtype, head_size):
    """The length of a stored row of this torch dtype."""
    return head_size + SCALE_BYTES * (dtype == torch.int8)


def narrowed(rows, dtype):
    """Rows, (..., hs) or as another torch dtype stores them -> as this one does, (..., width)."""
    if rows.dtype == dtype:
        return rows
    rows = widened(rows)
    if dtype != torch.int8:
        return rows.to(dtype)
    scales = (rows.abs().amax(-1, keepdim=True) / LARGEST).to(torch.bfloat16)  # rounded before it divides
    numbers = rows / scales.float().where(scales > 0, 1)
    return torch.cat((numbers.round().to(torch.int8), scales.view(torch.int8)), dim=-1)


def of_dtype(parts, dtype):
    """{(kind, layer): rows} -> the same, those of the kind 'index' as a memory of this dtype holds them."""
    return {(kind, layer): narrowed(rows, DTYPES[dtype]) if kind == 'index' else rows
            for (kind, layer), rows in parts.items()}


def widened(rows):
    """Stored rows (..., width) -> (..., hs) float32."""
    return rows.float() if rows.dtype != torch.int8 else rows[..., :-SCALE_BYTES] * scales_of(rows)[..., None]


def scales_of(rows):
    """What the numbers of int8 rows (..., width) are times: (...) float32."""
    return rows[..., -SCALE_BYTES:].contiguous().view(torch.bfloat16)[..., 0].float()


@dataclass(frozen=True)
class IndexRows:
    """One head's keys: numbers (M, hs) float32, bfloat16 or int8, and of int8 scales (M,) float32."""
    numbers: torch.Tensor
    scales: torch.Tensor = None

    @classmethod
    def of(cls, rows):
        """Of stored rows (M, width), where they lie."""
        if rows.dtype != torch.int8:
            return cls(rows)
        return cls(rows[:, :-SCALE_BYTES], scales_of(rows))

    def float(self):
        """-> (M, hs) float32."""
        rows = self.numbers.float()
        return rows if self.scales is None else rows * self.scales[:, None]

    def products(self, queries, first, end):
        """Queries (N, hs) float32 with the rows [first, end) -> (N, end - first) float32."""
        own = self.numbers[first:end]
        rows = queries.new_empty(PARTS, -(-len(own) // PARTS), self.head_size)
        rows.flatten(0, 1)[:len(own)] = own
        found = (queries @ rows.transpose(1, 2)).transpose(0, 1).flatten(1)[:, :len(own)]
        # of fewer numbers than the rows have
        return found if self.scales is None else found.mul_(self.scales[first:end])

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, ids):
        """The rows of these numbers, copied."""
        # index_select: of int8 rows [ids] takes thirty times as long
        return IndexRows(*(part if part is None else part.index_select(0, ids)
                           for part in (self.numbers, self.scales)))

    @property
    def head_size(self):
        return self.numbers.size(1)
