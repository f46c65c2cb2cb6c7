"""Give a built module new behaviour by swapping its class.

The object, its parameters' names, its hooks and its place in the model stay,
``isinstance`` of the upstream class still holds, and ``deepcopy``,
``torch.compile`` and SyncBN conversion see an ordinary module. Hooks and
closures survive none of these; ``torch.nn.utils.parametrize`` swaps classes for
the same reason.
"""

from __future__ import annotations

from functools import cache

from torch import nn


@cache
def _swapped(mixin: type, cls: type[nn.Module]) -> type[nn.Module]:
    name = mixin.__name__.removesuffix("Mixin") + cls.__name__
    return type(name, (mixin, cls), {"__module__": mixin.__module__})


def swap_class(module: nn.Module, mixin: type) -> nn.Module:
    """Put ``mixin`` before the class of ``module``, in place, and return ``module``."""
    module.__class__ = _swapped(mixin, type(module))
    return module


def as_torch(conv: nn.Module) -> nn.Module:
    """``conv``, in place, without mmcv's wrapper: what knows torch's convolutions then knows it.

    The wrapper that ``conv_cfg=dict(type='Conv')`` builds serves empty inputs on torch
    before 1.5, and is the plain convolution on any later one.
    """
    from mmcv.cnn.bricks import wrappers

    for wrapper, plain in ((wrappers.Conv2d, nn.Conv2d), (wrappers.Conv3d, nn.Conv3d)):
        if type(conv) is wrapper:
            conv.__class__ = plain
    return conv
