"""
What a model's weights are now: which model's, trainable or frozen, as torch keeps them or packed.
"""
import contextlib

import torch
from torch import nn

from core import compiled
from core.checks import check_choice
from core.filling import fill, rounded_of
from core.identity import fingerprint, sampled_fingerprint
from core.packed import ROUNDED, Linear


class WeightState:
    """Of one model. `frozen`: its fingerprint, '' while trainable. `sampled`: old files' name for it.

    A frozen model refuses training and other weights, and notices what torch counts as a write to a tensor.
    A write through `.data` is none: who does that unfreezes first, or the model keeps a name that is not its.
    """

    def __init__(self):
        self.frozen = self.sampled = ''
        self.versions, self.casts = (), {}  # casts: {fingerprint of cast numbers: of those before}
        self.layers = None  # core.compiled.Layers, made when first asked for
        self.rounded = None  # torch.int8 or torch.int4, what the weights of its products are

    def __getstate__(self):  # of a copy, whose tensors are others
        return {**self.__dict__, 'versions': (), 'layers': None}

    def fingerprint(self, model):
        """A hash of every number, as it was before any cast: float16 and bfloat16 of one model are one model.

        Kept while frozen, else taken anew: GPT-2 124M, 0.5 GB, in about 50 ms. Raises ValueError where a
        frozen model was changed.
        """
        if self.frozen:
            self.versions = self.versions or versions_of(model)
            if self.versions != versions_of(model):
                raise ValueError("the weights were changed while the model was frozen: "
                                 "call model.unfreeze() first, or load it anew")
            return self.frozen
        found = fingerprint(model.named_weights())
        return self.casts.get(found, found)

    def sampled_fingerprint(self, model):
        return self.sampled or sampled_fingerprint(model.named_weights())

    def fill(self, model, state, device, dtype):
        """A new model takes these weights, see core.filling, and is frozen. dtype: also one of ROUNDED."""
        self.rounded = dtype if dtype in ROUNDED else None
        dtype = torch.bfloat16 if self.rounded else dtype
        self.frozen, self.sampled = fill(model, state, device, dtype, self.rounded)
        self.pack(model)

    def freeze(self, model, rounded=None):
        """rounded: what the products' weights become, torch.int8 or torch.int4; None leaves them. Raises
        ValueError for another, or where the model is frozen otherwise."""
        check_choice('rounded', rounded, (None, *ROUNDED))
        if self.frozen and rounded != self.rounded:
            raise ValueError(f"the model is frozen, rounded to {self.rounded}, not {rounded}: load it again")
        if not self.frozen:
            self.frozen, self.rounded = self.fingerprint(model), rounded
            self.pack(model)
        return model

    def unfreeze(self, model):
        if self.frozen:
            self.unpack(model)
            self.frozen = self.sampled = ''  # from now on the numbers may change
            model.requires_grad_(True)
        return model

    def pack(self, model):
        model.requires_grad_(False)
        for layer in linear_layers(model):
            layer.pack(self.rounded and rounded_of(model, layer, self.rounded))
        if self.rounded:  # what is not, in bfloat16, which the products with rounded weights are fast in
            nn.Module._apply(model, lambda p: p.bfloat16() if p.is_floating_point() else p)
        self.versions = versions_of(model)

    def compiled(self, model, x, cache):
        """-> compiled.Layers for these rows, or None, see compiled.fits and Layers.fit."""
        if not self.frozen or not compiled.fits(x, cache):
            return None
        layers = self.layers
        if layers is None:
            layers = self.layers = compiled.Layers(model) if compiled.can_be(model) else None
        return layers if layers and layers.fit(x, cache) else None

    def unpack(self, model):
        if self.rounded:
            name = str(self.rounded).removeprefix('torch.')
            raise ValueError(f"the weights were rounded to {name} when the model was loaded: load it again, "
                             "in the dtype that it should have")
        self.layers = None
        for layer in linear_layers(model):
            layer.unpack()

    def check_free(self, what):
        if self.frozen:
            raise ValueError(f"the model is frozen, so it {what}: call model.unfreeze() first, "
                             "or load another")

    @contextlib.contextmanager
    def of_same_model(self, model):
        """Within it the weights may be cast and moved: they are still the same model's."""
        before = self.fingerprint(model)
        if not self.frozen:
            yield
            self.casts[fingerprint(model.named_weights())] = before
            return
        self.unpack(model)
        try:
            yield
        finally:  # a move that failed leaves a model that still writes
            self.pack(model)


def linear_layers(model):
    return (layer for layer in model.modules() if isinstance(layer, Linear))


def versions_of(model):
    """What torch counts up when a tensor is written to: no guard against everything, but a cheap one."""
    return tuple((id(p), p._version) for p in model.parameters())
