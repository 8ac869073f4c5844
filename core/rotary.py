"""
Rotary positions (RoPE, Su et al. 2021): a query's product with a key sees only how far apart they stand.
"""
import math

import torch


class Rotary:
    """For heads of size hs: numbers n and n + hs/2 of a head turn together, by position * frequency n.

    scaling: () is none, else Llama 3's (factor, low_freq_factor, high_freq_factor, original context): low
    frequencies, which a longer context would take beyond what training saw, are slowed down by the factor,
    high ones kept, those between blended.
    factors: () is none, else what each of the frequencies is divided by, as GGUF files keep such a scaling.
    """

    def __init__(self, head_size, theta, scaling=(), factors=()):
        self.frequencies = 1 / theta ** (torch.arange(0, head_size, 2).float() / head_size)  # (hs/2,)
        if scaling:
            self.frequencies = slowed(self.frequencies, *scaling)
        if factors:
            self.frequencies = self.frequencies / torch.tensor(factors)

    def at(self, positions):
        """positions (T,) or (B, T) int64, also below 0 -> (cos, sin) float32, for `turn`.

        Each is (T, hs) or (B, 1, T, hs): the angle's for both halves, the sine of the first below 0.
        """
        angles = positions[..., None].float() * self.frequencies.to(positions.device)
        if angles.dim() == 3:
            angles = angles[:, None]  # the same for all heads
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)

    def at_one(self, position, device):
        """As `at`, of tokens that all stand at one position."""
        return self.at(torch.tensor([position], device=device))


def slowed(frequencies, factor, low, high, context):
    turns = context * frequencies / (2 * math.pi)  # in the context that training saw
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / factor


def turn(x, at):
    """x (..., T, hs), as from position 0, turned to the positions that `at` was made for."""
    cos, sin = (part.to(x.dtype) for part in at)
    return torch.addcmul(x * cos, x.roll(x.size(-1) // 2, -1), sin)  # of one token each call counts: three
