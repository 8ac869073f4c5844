"""
Weights kept so that a CPU multiplies with them fastest: in the order of its library, oneDNN, or as int8 or
int4.
"""
import math

import torch
import torch.nn as nn
from torch.nn import functional as F

from core.narrow import SCALE_BYTES, narrowed, scales_of

ROWS_PACKED_FOR = 64  # of the other factor: as fast for one row and for many as an order made for just these
# what a CPU reads fast but multiplies slowly is made float32 first, from so many rows of the other factor on
WIDENED_FROM_ROWS = {torch.bfloat16: 4, torch.int8: 16}
ROWS_A_BLOCK = 1024  # made narrow at once: a vocabulary's would take several times their memory meanwhile
INT8_BLOCK = 32  # torch's product reads whole blocks of inputs, also past the end of what has none
INT4_GROUP, INT4_OUTPUTS = 32, 16  # inputs of one scale, as in GGUF; outputs that are packed together
INT4_LARGEST, INT4_ZERO = 15, 8  # torch's product takes a number n of 0 to 15 for (n - 8) scale + zero
ROUNDED = torch.int8, torch.int4


class Linear(nn.Linear):
    """nn.Linear, whose weight can be packed.

    A packed weight is opaque: it keeps its numbers, but can no more be trained. One of int8 has a scale for
    each output, one of int4 (uint8, two a byte, in this processor's own order, for bfloat16 inputs) a scale
    and a zero for each group of inputs.
    """
    scales, widened_from = None, math.inf  # bfloat16, of int8 (out,), of int4 (in / INT4_GROUP, out, 2)

    def pack(self, rounded=None):
        """rounded: torch.int8, or torch.int4, which sizes that it does not divide make int8; or None."""
        weight = self.weight.detach()
        is_odd = self.in_features % INT4_GROUP or self.out_features % INT4_OUTPUTS
        if rounded == torch.int4 and not is_odd:
            parts = [in_groups(some) for some in weight.split(ROWS_A_BLOCK)]
            weight, self.scales = (torch.cat(part, dim) for part, dim in zip(zip(*parts), (0, 1)))
            weight = torch.ops.aten._convert_weight_to_int4pack_for_cpu(weight, 1)
        elif rounded:
            rows = torch.cat([narrowed(some, torch.int8) for some in weight.split(ROWS_A_BLOCK)])
            self.scales, weight = scales_of(rows).bfloat16(), rows[:, :-SCALE_BYTES].contiguous()
        elif can_be_packed(weight):
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS_PACKED_FOR)
        self.weight = nn.Parameter(weight, requires_grad=False)
        if weight.device.type == 'cpu' and not weight.is_mkldnn:
            is_odd = weight.dtype == torch.int8 and self.in_features % INT8_BLOCK
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
            y = self.rounded_products(x.flatten(0, -2)).view(*x.shape[:-1], -1)
        else:
            return super().forward(x)
        return (y if self.bias is None else y + self.bias).to(x.dtype)

    def rounded_products(self, x):
        if self.weight.dtype == torch.int8:
            return torch.ops.aten._weight_int8pack_mm(x, self.weight, self.scales)
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.weight, INT4_GROUP, self.scales)

    def __reduce_ex__(self, protocol):  # how modules are copied and pickled, which a packed weight cannot be
        if not self.weight.is_mkldnn:
            return super().__reduce_ex__(protocol)
        dense = nn.Parameter(self.weight.to_dense(), requires_grad=False)
        return packed_again, ({**self.__dict__, '_parameters': {**self._parameters, 'weight': dense}},)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # a state dict is for others to read
        weight = destination[prefix + 'weight'].to_dense()
        if weight.dtype == torch.int8:
            weight = weight * self.scales[:, None]
        elif self.scales is not None:  # the order of int4 is the processor's, which alone can read it
            weight = self.rounded_products(torch.eye(self.in_features, dtype=torch.bfloat16)).T.contiguous()
        destination[prefix + 'weight'] = weight


def count(weight):
    """How many numbers a weight has, packed or not."""
    return weight.numel() * (2 if weight.dtype == torch.uint8 else 1)


def in_groups(weight):
    """(out, in) -> numbers 0 to 15, int32, and scales and zeros (in / INT4_GROUP, out, 2) bfloat16.

    A group's least is 0 and its largest 15, as in GGUF's Q4_1, whose numbers are found again.
    """
    groups = weight.float().unflatten(1, (-1, INT4_GROUP))
    least, largest = groups.aminmax(dim=-1, keepdim=True)
    scales = (largest - least) / INT4_LARGEST
    numbers = ((groups - least) / scales.where(scales > 0, 1)).round().int()
    zeros = least + INT4_ZERO * scales
    return numbers.flatten(1), torch.cat((scales, zeros), dim=-1).transpose(0, 1).bfloat16().contiguous()


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
