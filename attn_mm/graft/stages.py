"""Split a built backbone into stages, if its forward is known.

A graft replaces a backbone's forward, so it must know what that forward does.
It recognises a backbone by the class that defines its ``forward``.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attn_mm.graft.families import SPLITS
from attn_mm.graft.families.family import Split
from attn_mm.graft.probe import CannotRun, look_at_outputs
from attn_mm.graft.units import find_family, forward_owner


def find_split(backbone: nn.Module) -> Split:
    """How ``backbone`` falls into stages.

    Raises:
        TypeError: the backbone's forward is of none of the known families.
    """
    name = forward_owner(backbone)
    if name not in SPLITS:
        parts = (part for part, child in backbone.named_children() if forward_owner(child) in SPLITS)
        part = next(parts, None)
        way_out = "use outputs= or after= in a layer" if part is None else f"graft onto its part {part!r}"
        raise TypeError(
            f"{type(backbone).__name__} can't be split into stages: its forward, {_short(name)}'s, is no "
            f"known chain of stages; {way_out}"
        )
    return SPLITS[name]


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def attended_maps(split: Split, backbone: nn.Module) -> tuple[list[int], Any]:
    """The channels of the map of every stage but the last, and the dimensions of a map, 2 or 3.

    Raises:
        TypeError: a stage ends in a block of no known family.
        ValueError: the backbone does not run on an example input.
    """
    if split.ends is not None:
        convs = [_last_conv(end) for end in split.ends(backbone)]
        return [conv.out_channels for conv in convs], split.dims or len(convs[0].kernel_size)
    trial = _Trial(split, backbone)
    try:
        shapes = look_at_outputs(trial, [trial])[trial][0]
    except CannotRun as error:
        raise ValueError(
            f"{type(backbone).__name__} doesn't run on an example input, which tells its stages' channels"
        ) from error
    return [shape[1] for shape in shapes], len(shapes[0]) - 2


class _Trial(nn.Module):
    """A backbone that runs all of its stages but the last."""

    def __init__(self, split: Split, backbone: nn.Module) -> None:
        super().__init__()
        self.split = split
        self.backbone = backbone

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.split.stages(self.backbone)[:-1]:
            x = stage(x)
            maps.append(x)
        return maps


def _last_conv(end: nn.Module) -> Any:
    if hasattr(end, "kernel_size"):
        return end
    family = find_family(end)
    if family is not None:
        return family.units(end)[-1].conv
    names = [name for name in ("conv1", "conv2", "conv3") if hasattr(end, name)]
    if not names:
        raise TypeError(f"{type(end).__name__} is not a residual block that grafts support")
    return getattr(end, names[-1])
