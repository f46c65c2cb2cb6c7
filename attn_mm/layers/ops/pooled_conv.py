"""1x1 convolutions of pooled maps as matrix products.

For so few positions, a convolution spends most of its time on the layout of the weights: on two CPU threads,
a product is two to four times as fast.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from attn_mm.layers.ops.dims import check_dims
from attn_mm.layers.ops.execution import is_traced, shortcuts_enabled

FEW_POSITIONS = 9
"""The most positions of an output for which a matrix product is faster than oneDNN's convolution."""


class _Pooled(_ConvNd):
    def forward(self, input: Tensor) -> Tensor:
        if is_traced() or not (shortcuts_enabled() and self._is_pooled(input)):
            return super().forward(input)
        weight = self.weight.flatten(1)
        if input.shape[2:].numel() == 1:
            return F.linear(input.flatten(1), weight, self.bias).unflatten(1, (len(weight), *input.shape[2:]))
        out = F.linear(input.flatten(2).movedim(1, 2), weight, self.bias)
        # The unusual strides of a single sample would give wrong gradients in torch's batch norms (2.11).
        return out.movedim(2, 1).unflatten(2, input.shape[2:]).contiguous()

    def _is_pooled(self, input: Tensor) -> bool:
        """Whether this is a batch of maps of few positions."""
        return input.dim() == self.weight.dim() and input.shape[2:].numel() <= FEW_POSITIONS


class PooledConv2d(_Pooled, nn.Conv2d):
    """A 1x1 ``nn.Conv2d``, made for pooled maps."""


class PooledConv3d(_Pooled, nn.Conv3d):
    """A 1x1 ``nn.Conv3d``, made for pooled maps."""


def pooled_conv_class(dims: int) -> type[PooledConv2d] | type[PooledConv3d]:
    """The convolution class for ``dims`` spatial dimensions.

    Raises:
        ValueError: ``dims`` is not 2 or 3.
    """
    check_dims(dims)
    return PooledConv2d if dims == 2 else PooledConv3d
