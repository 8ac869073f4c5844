"""
Attention to a prompt that all rows of a batch share: its keys and values are read once for all of them.
"""
import torch


def attend_behind(shared, q, k, v):
    """What one new token of each row attends to: the shared rows, and its row's own behind them, which it all
    sees. One softmax, put together of two by how much each has in front (Dao et al. 2022, 3.1).

    shared (1, 2 nkv, P, hs) keys, then values; q (B, nkv, n, hs), the query heads of a key head; k and v
    (B, nkv, S, hs); float32 on a CPU -> as q.
    """
    B, nkv, n, hs = q.shape
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # tells its softmax's sum as well
    together = q.transpose(0, 1).reshape(1, nkv, B * n, hs)
    before, log_before = flash(together, *shared.chunk(2, dim=1))
    before, log_before = (x.view(nkv, B, n, -1).transpose(0, 1) for x in (before, log_before))
    own, log_own = flash(q, k, v)
    return own.lerp(before, torch.sigmoid(log_before - log_own[..., None]))
