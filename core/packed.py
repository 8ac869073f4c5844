"""
Weights ordered in memory as the CPU's library, oneDNN, reads them fastest.
"""
import torch
import torch.nn as nn

ROWS_PACKED_FOR = 64  # of the other factor: as fast for one row and for many as an order made for just these


class Linear(nn.Linear):
    """nn.Linear, whose weight can be packed.

    A packed weight is opaque: it keeps its numbers, but can no more be trained.
    """

    def pack(self):
        weight, onednn = self.weight.detach(), torch.ops.mkldnn
        if can_be_packed(weight):
            packed = onednn._reorder_linear_weight(weight, ROWS_PACKED_FOR)
            self.weight = nn.Parameter(packed, requires_grad=False)

    def unpack(self):
        if self.weight.is_mkldnn:
            self.weight = nn.Parameter(self.weight.to_dense(), requires_grad=False)

    def forward(self, x):
        if self.weight.is_mkldnn:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, 'none', [], '')
        return super().forward(x)

    def __reduce_ex__(self, protocol):  # how modules are copied and pickled, which a packed weight cannot be
        if not self.weight.is_mkldnn:
            return super().__reduce_ex__(protocol)
        dense = nn.Parameter(self.weight.to_dense(), requires_grad=False)
        return packed_again, ({**self.__dict__, '_parameters': {**self._parameters, 'weight': dense}},)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # a state dict is for others to read
        destination[prefix + 'weight'] = destination[prefix + 'weight'].to_dense()


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
