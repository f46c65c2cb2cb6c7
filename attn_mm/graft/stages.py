"""A built backbone as a stem and stages, for the families whose forward is known.

The graft takes over a backbone's forward, so it must know the forward that it
replaces: a backbone is recognised by the class that defines its ``forward``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def _resnet_stem(backbone: nn.Module, x: Tensor) -> Tensor:
    return backbone.maxpool(_cifar_stem(backbone, x))


def _cifar_stem(backbone: nn.Module, x: Tensor) -> Tensor:
    if backbone.deep_stem:
        return backbone.stem(x)
    return backbone.relu(backbone.norm1(backbone.conv1(x)))


STEMS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "mmdet.models.backbones.resnet.ResNet": _resnet_stem,
    "mmpose.models.backbones.resnet.ResNet": _resnet_stem,
    "mmpretrain.models.backbones.resnet.ResNet": _resnet_stem,
    "mmpretrain.models.backbones.resnet_cifar.ResNet_CIFAR": _cifar_stem,
}
"""Stem of each known family, keyed by the class that defines ``forward``."""


def find_stem(backbone: nn.Module) -> Callable[[nn.Module, Tensor], Tensor]:
    """The stem of ``backbone``: ``stem(backbone, x)`` is what its first stage gets.

    Raises:
        TypeError: the backbone's forward is of none of the known families.
    """
    for cls in type(backbone).__mro__:
        if "forward" in vars(cls):
            name = f"{cls.__module__}.{cls.__qualname__}"
            if name in STEMS:
                return STEMS[name]
            break
    known = ", ".join(STEMS)
    raise TypeError(
        f"{type(backbone).__name__} can't be split into stages: its forward is {name}'s; "
        f"known are those of {known} and of their subclasses that keep it"
    )


def block_channels(block: nn.Module) -> int:
    """Output channels of a residual block: those of its last convolution."""
    last = max(name for name, _ in block.named_children() if name in ("conv1", "conv2", "conv3"))
    conv = getattr(block, last)
    return getattr(conv, "conv", conv).out_channels


def stage_channels(backbone: nn.Module) -> list[int]:
    """Output channels of every stage of a staged backbone."""
    return [block_channels(getattr(backbone, name)[-1]) for name in backbone.res_layers]
