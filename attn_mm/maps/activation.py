"""Activation-based attention maps: where the features of a layer are large.

Zagoruyko & Komodakis, Paying More Attention to Attention, ICLR 2017, section 3.1
(https://arxiv.org/abs/1612.03928).
"""

from __future__ import annotations

from torch import Tensor


def activation_map(features: Tensor, power: float = 2.0) -> Tensor:
    """Sum the p-th powers of the features' absolute values over the channels.

    Args:
        features: ``(N, C, *size)``.
        power: p; larger values give more weight to the strongest channels.

    Returns:
        ``(N, *size)``, not negative.
    """
    return features.abs().pow(power).sum(1)
