"""Bilinear attention pooling: one feature vector per part of an image.

Hu et al., See Better Before Looking Closer: Weakly Supervised Data Augmentation Network for Fine-Grained
Visual Classification, 2019, "Bilinear Attention Pooling" (https://arxiv.org/abs/1901.09891).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attn_mm.layers.ops.precision import no_autocast, wide_type

# Keeps the square root's derivative finite at zero.
EPSILON = 1e-12


def bilinear_attention_pooling(features: Tensor, attention: Tensor) -> Tensor:
    """Pool features by part: their mean over positions, weighted by the part's attention map.

    As in the authors' code, the matrix then goes through a signed square root and is divided by its l2 norm
    over parts and channels together; both are computed in float32 or wider.

    Args:
        features: F, ``(N, C, H, W)``.
        attention: A, ``(N, M, H, W)``, one map for each part.

    Returns:
        The feature matrix, ``(N, M, C)``, with norm 1.

    Raises:
        ValueError: ``features`` and ``attention`` differ in N, H or W.
    """
    if features.shape[::2] != attention.shape[::2] or features.shape[3:] != attention.shape[3:]:
        raise ValueError(
            "features (N, C, H, W) and attention (N, M, H, W) must agree in N, H and W, got "
            f"{tuple(features.shape)} and {tuple(attention.shape)}"
        )
    kind = wide_type(features)
    features, attention = features.flatten(2).to(kind), attention.flatten(2).to(kind)
    with no_autocast(features):
        pooled = torch.bmm(attention, features.transpose(1, 2)) / features.shape[2]
    rooted = pooled.sign() * (pooled.abs() + EPSILON).sqrt()
    return F.normalize(rooted.flatten(1), dim=1).view_as(pooled)
