"""Linearise TAM step by step: set the slopes of its PReLUs to 1, the nearest to 1 first.

Tree-structured Attention Module for Image Classification, anonymous, submitted to ICLR 2020
(https://openreview.net/forum?id=r1xBoxBYDH), section 4.2, figure 5a.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from attn_mm.layers import TAM


class SlopedLayer(NamedTuple):
    """A PReLU inside a TAM.

    Attributes:
        name: name of the module in the network.
        module: the PReLU.
        slope: mean negative slope over its channels.
    """

    name: str
    module: nn.PReLU
    slope: float


def sloped_layers(network: nn.Module) -> list[SlopedLayer]:
    """Find the PReLUs of all TAMs, sorted by the distance of their mean slope from 1, closest first."""
    layers = [
        SlopedLayer(f"{name}.{inner}".lstrip("."), layer, layer.weight.detach().double().mean().item())
        for name, tam in network.named_modules()
        if isinstance(tam, TAM)
        for inner, layer in tam.named_modules()
        if isinstance(layer, nn.PReLU)
    ]
    return sorted(layers, key=lambda layer: abs(layer.slope - 1))


@contextmanager
def linearised(layers: Sequence[SlopedLayer]) -> Iterator[None]:
    """Set the slopes of ``layers`` to 1 in this context, so that the PReLUs become identities."""
    kept = [layer.module.weight.detach().clone() for layer in layers]
    try:
        with torch.no_grad():
            for layer in layers:
                layer.module.weight.fill_(1)
        yield
    finally:
        with torch.no_grad():
            for layer, slopes in zip(layers, kept):
                layer.module.weight.copy_(slopes)
