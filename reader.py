"""
How a memory is read.
"""
from dataclasses import dataclass

SETTINGS = {'layers': 'memory_layers', 'heads': 'memory_heads', 'k': 'memory_k', 'method': 'memory_method',
            'memory_fraction': 'memory_fraction', 'bookkeeping_fraction': 'bookkeeping_fraction',
            'softmax_scale': 'softmax_scale', 'residual_fraction': 'residual_fraction', 'select': 'memory_select'}


@dataclass(frozen=True)
class Reading:
    """The settings of all layers that read a memory, made once and passed whole; see GPT.attach_memory."""
    layers: tuple = (9,)
    heads: tuple = ()
    k: int = 5
    method: int = 2
    memory_fraction: float = 0.0
    bookkeeping_fraction: float = 0.9
    softmax_scale: float = 1000.0
    residual_fraction: float = 0.1
    select: str = 'last'

    @classmethod
    def of(cls, settings):
        """From a script's settings, {name: value}."""
        return cls(**{field: settings[name] for field, name in SETTINGS.items()})
