"""Measure the variance of the filters of a network's residual blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attn_mm.graft.units import find_family
from attn_mm.utils.tables import markdown_table


def block_variances(model: nn.Module) -> list[dict]:
    """Mean filter variance of each residual block and of its convolutions, by depth, for JSON.

    Covers the convolutions of the residual branch, without those of attention.
    """
    blocks = []
    for name, block in model.named_modules():
        family = find_family(block)
        if family is None:
            continue
        found = {
            unit.name: filter_variances(unit.conv.get_parameter("weight"))
            for unit in family.units(block)
            if isinstance(getattr(unit.conv, "weight", None), nn.Parameter)
        }
        convs = {unit: variances.mean().item() for unit, variances in found.items()}
        blocks.append(dict(name=name, variance=torch.cat([*found.values()]).mean().item(), convs=convs))
    return blocks


def filter_table(networks: Sequence[dict]) -> str:
    """Format the mean filter variance of each block as Markdown, one column per network."""
    names = [network["name"] for network in networks]
    most = max(len(network["blocks"]) for network in networks)
    rows = [
        (
            str(1 + place),
            *(
                f"{network['blocks'][place]['variance']:.3e}" if place < len(network["blocks"]) else ""
                for network in networks
            ),
        )
        for place in range(most)
    ]
    return markdown_table(("block", *names), rows, ("block", *names))


def filter_variances(weight: Tensor) -> Tensor:
    """Compute the variance of each filter over its input channels and positions.

    Args:
        weight: weight of a convolution, ``(filters, channels, *kernel_size)``.

    Returns:
        ``(filters,)``, float64; population variances, divided by the number of weights.
    """
    return weight.detach().double().flatten(1).var(1, correction=0)
