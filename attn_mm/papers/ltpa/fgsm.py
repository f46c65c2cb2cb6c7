"""Fool a classifier with one step along the sign of a gradient.

The fast gradient sign method: Goodfellow et al., Explaining and Harnessing Adversarial Examples,
ICLR 2015 (https://arxiv.org/abs/1412.6572). As in Jetley et al., Learn To Pay Attention, ICLR 2018,
sections 2 and 5.2 (https://arxiv.org/abs/1804.02391), it works against the predicted class.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# The paper's, of 255: figure 6.
NORMS = (1, 2, 4, 8, 16)


def ascent_signs(classify: Callable[[Tensor], Tensor], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Find the direction in which each pixel makes the predicted class less likely.

    This is the sign of the gradient of J = -log p_c, where c is the class with the highest score: an "epsilon
    step in the direction opposite to the predicted class score gradient". The code differentiates
    log sum_{k != c} exp(s_k) - s_c, whose softplus is J. The signs are the same, and do not vanish if p_c
    rounds to 1.

    Args:
        classify: maps pixels ``(N, C, H, W)`` to scores ``(N, classes)``; their softmax is p.
        pixels: ``(N, C, H, W)``, floating point.

    Returns:
        The signs, -1, 0 or 1, shaped like ``pixels``, and the predicted classes ``(N,)``.
    """
    pixels = pixels.detach().requires_grad_()
    with torch.enable_grad():
        scores = classify(pixels)
        predicted = scores.argmax(1, keepdim=True)
        others = scores.scatter(1, predicted, -torch.inf).logsumexp(1)
        margin = others - scores.gather(1, predicted)[:, 0]
        (gradient,) = torch.autograd.grad(margin.sum(), pixels)
    return gradient.sign(), predicted[:, 0]


def perturbed(pixels: Tensor, signs: Tensor, norm: float) -> Tensor:
    """Move ``pixels`` (0 to 255) by a step of L-infinity norm ``norm``, and clip them to 0..255."""
    return (pixels + norm * signs).clamp(0, 255)
