"""The name of the ResNeXt for small images; mmpretrain is imported when a config uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attn_mm.registry import MODELS

if TYPE_CHECKING:
    from attn_mm.models.resnext_cifar_net import ResNeXtCIFAR


@MODELS.register_module(name="ResNeXtCIFAR")
def resnext_cifar(**options) -> ResNeXtCIFAR:
    """Build :class:`attn_mm.models.resnext_cifar_net.ResNeXtCIFAR`, which says what ``options`` there are."""
    from attn_mm.models.resnext_cifar_net import ResNeXtCIFAR

    return ResNeXtCIFAR(**options)
