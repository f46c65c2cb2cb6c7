"""Split a built backbone into stages, if its forward is known.

A graft replaces a backbone's forward, so it must know what that forward does.
It recognises a backbone by the class that defines its ``forward``.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from attn_mm.graft.families import SPLITS
from attn_mm.graft.families.family import Split
from attn_mm.graft.units import find_family, forward_owner


def find_split(backbone: nn.Module) -> Split:
    """How ``backbone`` falls into stages.

    Raises:
        TypeError: the backbone's forward is of none of the known families.
    """
    name = forward_owner(backbone)
    if name not in SPLITS:
        raise TypeError(
            f"{type(backbone).__name__} can't be split into stages: its forward is that of {name}; "
            "attn_mm.graft.families.SPLITS lists the supported ones"
        )
    return SPLITS[name]


def end_convs(split: Split, backbone: nn.Module) -> list[Any]:
    """The last convolution of every stage of ``backbone`` but the last: of each that can be attended.

    Raises:
        TypeError: a stage ends in a block of no known family.
    """
    return [_last_conv(end) for end in split.ends(backbone)]


def _last_conv(end: nn.Module) -> nn.Module:
    if hasattr(end, "kernel_size"):
        return end
    family = find_family(end)
    if family is not None:
        return family.units(end)[-1].conv
    names = [name for name in ("conv1", "conv2", "conv3") if hasattr(end, name)]
    if not names:
        raise TypeError(f"{type(end).__name__} is not a residual block that grafts support")
    return getattr(end, names[-1])
