"""Fooling a classifier by one step along the sign of a gradient.

The fast gradient sign method: Goodfellow et al., Explaining and Harnessing Adversarial Examples,
ICLR 2015 (https://arxiv.org/abs/1412.6572), as Jetley et al., Learn To Pay Attention, ICLR 2018,
sections 2 and 5.2 (https://arxiv.org/abs/1804.02391), use it: against the class that the network predicts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# The paper's, of 255: figure 6.
NORMS = (1, 2, 4, 8, 16)


def ascent_signs(classify: Callable[[Tensor], Tensor], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """In which direction each pixel makes the predicted class less likely.

    That is the sign of the gradient of J = -log p_c, c being the class of the highest score: an "epsilon
    step in the direction opposite to the predicted class score gradient". What is differentiated is
    log sum_{k != c} exp(s_k) - s_c, whose softplus is J: the signs are the same, and do not vanish where
    p_c rounds to 1.

    Args:
        classify: from pixels ``(N, C, H, W)`` to scores ``(N, classes)``; their softmax is p.
        pixels: ``(N, C, H, W)``, floating point.

    Returns:
        the signs, -1, 0 or 1, like ``pixels``, and the predicted classes ``(N,)``.
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
    """``pixels`` (of 0..255) moved by ``norm``, the L-infinity norm of the step, and clipped to 0..255."""
    return (pixels + norm * signs).clamp(0, 255)
