"""What a graft must know of a block and of a backbone to run them in its own way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

Step = Callable[[Any, Tensor], Tensor]
Stage = Callable[[Tensor], Tensor]


class Unit(NamedTuple):
    """One convolution of a residual branch, its norm, its activation and the block's own layers behind."""

    name: str
    conv: nn.Module
    norm: nn.Module
    act: nn.Module | None
    then: tuple[Callable[[Tensor], Tensor], ...] = ()
    whole: nn.Module | None = None
    """The module that contains convolution, norm and activation; None where there is none."""

    @property
    def dims(self) -> Literal[2, 3]:
        """The dimensions that the convolution slides over."""
        dims: Any = len(self._of_conv("kernel_size"))
        return dims

    @property
    def in_channels(self) -> int:
        return self._of_conv("in_channels")

    @property
    def out_channels(self) -> int:
        return self._of_conv("out_channels")

    def _of_conv(self, attribute: str):
        if not hasattr(self.conv, attribute):
            raise TypeError(
                f"{self.name} is a {type(self.conv).__name__}, not a convolution that grafts support"
            )
        return getattr(self.conv, attribute)


class Family(NamedTuple):
    """How to read the blocks of one family, and how they end."""

    units: Callable[[Any], list[Unit]]
    shortcut: Callable[[Any, Tensor], Tensor | None]
    """``shortcut(block, x)``: what is added to the branch's output, None where nothing is."""
    finish: Step
    """``finish(block, sum)``: what the block does to the sum."""


class Split(NamedTuple):
    """How to split the backbones of one family into stages."""

    stages: Callable[[Any], list[Stage]]
    ends: Callable[[Any], list[nn.Module]]
    """The last block, or the last convolution, of every stage but the last: of each that can be attended."""
    indices: Callable[[Any], range]
    """What ``out_indices`` calls the stages."""
    bare: bool = False
    """Whether the backbone returns a single map as a tensor, not as a tuple of one."""


def from_conv_module(name: str, module: Any, then: tuple = ()) -> Unit:
    """The unit that mmcv's ``ConvModule`` is.

    Raises:
        TypeError: ``module`` is none.
    """
    if not hasattr(module, "conv"):
        raise TypeError(f"{name} is a {type(module).__name__}, not a ConvModule")
    act = module.activate if module.with_activation else None
    return Unit(name, module.conv, module.norm, act, then, module)


def no_shortcut(block: Any, x: Tensor) -> None:
    """The shortcut of a block that adds nothing."""
    return None


def as_it_is(owner: Any, x: Tensor) -> Tensor:
    """A step that changes nothing."""
    return x
