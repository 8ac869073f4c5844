"""
Weights kept so that a CPU multiplies with them fastest: in the order of its library, oneDNN, or as int8.
"""
import math

import torch
import torch.nn as nn
from torch.nn import functional as F

from core.narrow import SCALE_BYTES, narrowed, scales_of

ROWS_PACKED_FOR = 64  # of the other factor: as fast for one row and for many as an order made for just these
# what a CPU reads fast but multiplies slowly is made float32 first, from so many rows of the other factor on
WIDENED_FROM_ROWS = {torch.bfloat16: 4, torch.int8: 16}
ROWS_A_BLOCK = 1024  # made int8 at once: a vocabulary's would take several times their memory meanwhile
INT8_BLOCK = 32  # torch's product reads whole blocks of inputs, also past the end of what has none


class Linear(nn.Linear):
    """nn.Linear, whose weight can be packed.

    A packed weight is opaque: it keeps its numbers, but can no more be trained. One of int8 has a scale for
    each output, and its numbers are rounded.
    """
    scales, widened_from = None, math.inf  # (out,) of int8

    def pack(self, int8=False):
        weight = self.weight.detach()
        if int8:
            rows = torch.cat([narrowed(some, torch.int8) for some in weight.split(ROWS_A_BLOCK)])
            self.scales, weight = scales_of(rows).bfloat16(), rows[:, :-SCALE_BYTES].contiguous()
        elif can_be_packed(weight):
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS_PACKED_FOR)
        self.weight = nn.Parameter(weight, requires_grad=False)
        if weight.device.type == 'cpu' and not weight.is_mkldnn:
            is_odd = int8 and self.in_features % INT8_BLOCK
            self.widened_from = 1 if is_odd else WIDENED_FROM_ROWS.get(weight.dtype, math.inf)

    def unpack(self):
        self.widened_from = math.inf
        if self.weight.is_mkldnn:
            self.weight = nn.Parameter(self.weight.to_dense(), requires_grad=False)

    def forward(self, x):
        if self.weight.is_mkldnn:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, 'none', [], '')
        if x.numel() >= self.widened_from * x.size(-1):
            y = F.linear(x.float(), self.weight.float())
            y = y if self.scales is None else y.mul_(self.scales)
        elif self.scales is not None:
            y = torch.ops.aten._weight_int8pack_mm(x.flatten(0, -2), self.weight, self.scales)
            y = y.view(*x.shape[:-1], -1)
        else:
            return super().forward(x)
        return (y if self.bias is None else y + self.bias).to(x.dtype)

    def __reduce_ex__(self, protocol):  # how modules are copied and pickled, which a packed weight cannot be
        if not self.weight.is_mkldnn:
            return super().__reduce_ex__(protocol)
        dense = nn.Parameter(self.weight.to_dense(), requires_grad=False)
        return packed_again, ({**self.__dict__, '_parameters': {**self._parameters, 'weight': dense}},)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # a state dict is for others to read
        weight = destination[prefix + 'weight'].to_dense()
        destination[prefix + 'weight'] = weight if self.scales is None else weight * self.scales[:, None]


def can_be_packed(weight):
    """Whether oneDNN is there and takes this weight: of a CPU, float32, or bfloat16 where the CPU has it."""
    if weight.device.type != 'cpu' or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32


def packed_again(attributes):
    """The Linear that had these attributes, its weight dense here."""
    layer = Linear.__new__(Linear)
    layer.__dict__.update(attributes)
    layer.pack()
    return layer
