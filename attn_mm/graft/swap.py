"""Give a built module new behaviour by swapping its class.

The module stays the same object: it keeps its parameters' names, its hooks and its
place in the model, and is still an instance of the upstream class. ``deepcopy``,
``pickle``, ``torch.compile`` and SyncBN conversion see an ordinary module; they would
lose hooks and closures. ``torch.nn.utils.parametrize`` swaps classes for the same reason.
"""

from __future__ import annotations

import inspect
import sys
from functools import cache
from types import FunctionType
from typing import Any

from torch import nn


@cache
def _swapped(cls: Any, mixin: Any) -> type:
    upstream, mixins = getattr(cls, "swapped_from", (cls, ()))
    prefix = getattr(mixin, "prefix", mixin.__name__.removesuffix("Mixin"))
    namespace = {
        "__module__": mixin.__module__,
        "__reduce_ex__": _reduce,
        "swapped_from": (upstream, (*mixins, mixin)),
    }
    if "forward" in vars(mixin) and _takes_anything(mixin.forward):
        namespace["forward"] = _with_signature(mixin.forward, cls.forward)
    return type(prefix + cls.__name__, (mixin, cls), namespace)


def _takes_anything(function: Any) -> bool:
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    return inspect.Parameter.VAR_POSITIONAL in kinds


def _with_signature(function: Any, other: Any) -> Any:
    """A copy of ``function`` that has the signature of ``other``, by which exporters name inputs."""
    copied: Any = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__signature__ = inspect.signature(other)
    return copied


def _reduce(module: nn.Module, protocol: int) -> tuple:
    # The class can't be found by its name: it is made again from those that can.
    swapped: Any = type(module)
    return _remake, swapped.swapped_from, *object.__reduce_ex__(module, protocol)[2:]


def _remake(upstream: Any, mixins: tuple[type, ...]) -> nn.Module:
    cls = upstream
    for mixin in mixins:
        cls = _swapped(cls, mixin)
    return cls.__new__(cls)


def upstream_class(module: nn.Module) -> type:
    """The class that ``module`` had before any swap."""
    cls = type(module)
    return getattr(cls, "swapped_from", (cls,))[0]


def swap_class(module: nn.Module, mixin: type) -> nn.Module:
    """Put ``mixin`` before the class of ``module``, in place, and return ``module``.

    The new class's name starts with the mixin's ``prefix``, by default its name without "Mixin".
    """
    cls: Any = type(module)
    module.__class__ = _swapped(cls, mixin)
    return module


def as_torch(conv: nn.Module) -> nn.Module:
    """``conv``, in place, without mmcv's wrapper: what knows torch's convolutions then knows it.

    The wrapper that ``conv_cfg=dict(type='Conv')`` builds serves empty inputs on torch
    before 1.5, and is the plain convolution on any later one. TensorFlow's padding, which depends on the
    input's size, is nothing for a kernel of 1, whatever the stride.
    """
    if "mmcv" not in sys.modules:
        return conv
    from mmcv.cnn.bricks import Conv2dAdaptivePadding, wrappers

    if type(conv) is Conv2dAdaptivePadding and conv.kernel_size == (1, 1):
        conv.__class__ = nn.Conv2d

    for name in ("Conv2d", "Conv3d", "ConvTranspose2d", "ConvTranspose3d"):
        if type(conv) is getattr(wrappers, name):
            conv.__class__ = getattr(nn, name)
    return conv
