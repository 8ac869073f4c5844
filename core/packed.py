"""
Weights as a CPU multiplies with them: where they lie, by core/kernel.py for few rows and oneDNN for many, or
rounded to int8 or int4.
"""
import functools
import math

import torch
import torch.nn as nn
from torch.nn import functional as F

from core import kernel
from core.narrow import SCALE_BYTES, narrowed, scales_of

# read, hashed, and cast or rounded: a vocabulary's would take several times their memory meanwhile
NUMBERS_AT_ONCE = 2**20
INT4_GROUP, INT4_LARGEST = 32, 15  # inputs of one scale, as in GGUF
ROUNDED = torch.int8, torch.int4


class Linear(nn.Linear):
    """nn.Linear, whose weight can be packed: of a frozen model, on a CPU.

    One of int8 has a scale for each output, one of int4 (uint8, two a byte) a scale and a least for each
    group of inputs, all scales first. Neither can be trained again.
    """
    packed, scales = False, None  # of int8 bfloat16 (out,), of int4 float16 (out, 2, groups)

    def pack(self, rounded=None):
        """rounded: torch.int8, or torch.int4, which sizes that it does not divide make int8; or None."""
        weight = self.weight.detach()
        if rounded and self.scales is None:
            self.make_room(rounded, weight.device)
            for rows in blocks_of(weight.shape):
                self.put(rows, weight[rows])
        elif not weight.is_contiguous():  # GPT-2's files have theirs the other way round
            self.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        self.packed = self.weight.device.type == 'cpu' and self.weight.dtype in kernel.KINDS

    def make_room(self, rounded, device):
        """For numbers of `pack` and their scales, which `put` fills in."""
        out, groups = self.out_features, self.in_features // INT4_GROUP
        if rounded == torch.int4 and self.in_features % INT4_GROUP == 0:
            weight = torch.empty(out, groups, INT4_GROUP // 2, dtype=torch.uint8, device=device)
            self.scales = torch.empty(out, 2, groups, dtype=torch.float16, device=device)
        else:
            weight = torch.empty(out, self.in_features, dtype=torch.int8, device=device)
            self.scales = torch.empty(out, dtype=torch.bfloat16, device=device)
        self.weight = nn.Parameter(weight, requires_grad=False)

    def put(self, rows, numbers):
        """rows: a slice of the weight; numbers: what they are before they are rounded."""
        if self.weight.dtype == torch.uint8:
            self.weight[rows], self.scales[rows] = in_groups(numbers)
        else:
            found = narrowed(numbers, torch.int8)
            self.weight[rows], self.scales[rows] = found[:, :-SCALE_BYTES], scales_of(found)

    def unpack(self):
        self.packed = False

    def forward(self, x):
        if not self.packed or torch.is_grad_enabled() and x.requires_grad:
            return super().forward(x) if self.scales is None else self.widened(x)
        if x.numel() <= kernel.MOST_ROWS * x.size(-1) and kernel.takes(self) and kernel.library():
            y = kernel.linear(self, x.reshape(-1, self.in_features))
            return y.view(*x.shape[:-1], self.out_features).to(x.dtype)
        is_wide = self.scales is None and self.weight.dtype == torch.float32
        if not is_wide and not (has_bfloat16() and x.dtype == torch.bfloat16):
            return self.widened(x)
        if torch.backends.mkldnn.is_available():
            weight = self.weight if self.scales is None else self.wide_bfloat16()
            return torch.ops.mkldnn._linear_pointwise(x, weight, self.bias, 'none', [], '')
        return super().forward(x)

    def widened(self, x):
        bias = None if self.bias is None else self.bias.float()
        return F.linear(x.float(), self.wide(), bias).to(x.dtype)

    def wide_bfloat16(self):
        return kernel.widened(self) if kernel.takes(self) and kernel.library() else self.wide().bfloat16()

    def wide(self):
        """The weight (out, in) in float32."""
        if self.scales is None:
            return self.weight.float()
        if self.weight.dtype == torch.int8:
            return self.weight.float().mul_(self.scales[:, None])
        numbers = torch.stack((self.weight & INT4_LARGEST, self.weight >> 4), dim=-2)  # (out, groups, 2, 16)
        scale, least = self.scales.float()[..., None].unbind(1)  # (out, groups, 1)
        return numbers.flatten(2).float().mul_(scale).add_(least).flatten(1)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.scales is not None:  # a state dict is for others to read
            destination[prefix + 'weight'] = self.wide()


def blocks_of(shape):
    """Slices of rows."""
    size = max(1, NUMBERS_AT_ONCE // math.prod(shape[1:]))
    return (slice(first, first + size) for first in range(0, shape[0], size))


def count(weight):
    """How many numbers a weight has, packed or not."""
    return weight.numel() * (2 if weight.dtype == torch.uint8 else 1)


def megabytes(model):
    """Of weights, a tied one once, and their scales."""
    scales = [module.scales for module in model.modules() if getattr(module, 'scales', None) is not None]
    return sum(x.numel() * x.element_size() for x in (*model.parameters(), *scales)) / 1e6


def in_groups(weight):
    """(out, in) -> numbers 0 to 15 (out, groups, 16) uint8, i and i + 16 of a group in one byte, and scales
    and leasts (out, 2, groups) float16.

    A group's least is 0 and its largest 15, as in GGUF's Q4_1, whose numbers are found again.
    """
    groups = weight.float().unflatten(1, (-1, INT4_GROUP))
    least, largest = groups.aminmax(dim=-1, keepdim=True)
    scales = (largest - least) / INT4_LARGEST
    numbers = ((groups - least) / scales.where(scales > 0, 1)).round().to(torch.uint8)
    low, high = numbers.chunk(2, dim=-1)
    return low | high << 4, torch.stack((scales[..., 0], least[..., 0]), dim=1).half()


@functools.lru_cache(maxsize=1)
def has_bfloat16():
    """Whether this CPU multiplies in bfloat16."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
