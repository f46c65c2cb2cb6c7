"""DDRNet and PIDNet of mmsegmentation: two or three branches of residual blocks."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attn_mm.graft.families.family import Family, Unit, conv_module_chain
from attn_mm.graft.families.resnets import downsampled


def _conv_modules(block: Any) -> list[Unit]:
    names = ("conv1", "conv2", "conv3") if hasattr(block, "conv3") else ("conv1", "conv2")
    return conv_module_chain(names, [getattr(block, name) for name in names])


def _act(block: Any, x: Tensor) -> Tensor:
    return block.act(x) if hasattr(block, "act") else x


_RESIDUAL = Family(_conv_modules, downsampled, _act)

FAMILIES: dict[str, Family] = {
    "mmseg.models.utils.basic_block.BasicBlock": _RESIDUAL,
    "mmseg.models.utils.basic_block.Bottleneck": _RESIDUAL,
}
