"""How much the weights of a convolution's filters vary.

Tree-structured Attention Module for Image Classification, anonymous, submitted to ICLR 2020
(https://openreview.net/forum?id=r1xBoxBYDH), section 4.2, figure 5b: "average variances of each
convolutional filter weight within residual blocks".
"""

from __future__ import annotations

from torch import Tensor


def filter_variances(weight: Tensor) -> Tensor:
    """The variance of each filter, over its input channels and positions.

    Args:
        weight: of a convolution, ``(filters, channels, *kernel_size)``.

    Returns:
        ``(filters,)``, float64; variances divide by the number of weights.
    """
    return weight.detach().double().flatten(1).var(1, correction=0)
