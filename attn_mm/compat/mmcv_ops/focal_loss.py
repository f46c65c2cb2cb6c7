"""Focal loss (Lin et al., ICCV 2017) of logits, by sigmoid or by softmax.

``weight`` has one factor per class, or is empty. Inside the logarithm, probabilities
are clamped to at least ``FLT_MIN``, as in mmcv's kernels. The probability that a
class is absent is computed as ``sigmoid(-x)``, which is more exact than
``1 - sigmoid(x)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attn_mm.compat.mmcv_ops.precision import promoted

__all__ = [
    "sigmoid_focal_loss_backward",
    "sigmoid_focal_loss_forward",
    "softmax_focal_loss_backward",
    "softmax_focal_loss_forward",
]

FLT_MIN = torch.finfo(torch.float32).tiny


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of every logit of ``input`` ``(N, C)`` into ``output`` ``(N, C)``.

    ``target`` ``(N,)`` is a class, or any number outside ``[0, C)``, such as C, for background.
    """
    _, factor, p = _of_each_logit(input, target, weight, alpha)
    output.copy_(-factor * (1 - p) ** gamma * _log(p))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of every logit's loss into ``grad_input`` ``(N, C)``."""
    sign, factor, p = _of_each_logit(input, target, weight, alpha)
    grad_input.copy_(-sign * factor * (1 - p) ** gamma * (1 - p - gamma * p * _log(p)))


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of every row of ``softmax`` ``(N, C)`` into ``output`` ``(N,)``; 0 if target < 0."""
    (softmax,) = promoted(softmax)
    factor, p = _of_each_row(softmax, target, weight, alpha)
    output.copy_(-factor * (1 - p) ** gamma * _log(p))


def softmax_focal_loss_backward(
    softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Write the derivative of every row's loss by its logits into ``grad_input`` ``(N, C)``."""
    (softmax,) = promoted(softmax)
    factor, p = _of_each_row(softmax, target, weight, alpha)
    # Held above 0, for gamma < 1 has a negative power here.
    q = (1 - p).clamp(min=FLT_MIN)
    row = factor * (gamma * q ** (gamma - 1) * p * _log(p) - q**gamma)
    grad_input.copy_(row[:, None] * (_one_hot(softmax, target) - softmax))


def _of_each_logit(input: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple[Tensor, ...]:
    """For each logit: the sign of its desired change, its factor in the loss, and the probability of the
    correct answer (its class, or not its class); all ``(N, C)``."""
    (logit,) = promoted(input)
    positive = _one_hot(logit, target)
    sign = 2 * positive - 1
    factor = 1 - alpha + (2 * alpha - 1) * positive
    if weight.numel():
        factor = factor * _class_weight(weight, target)[:, None]
    return sign, factor, torch.sigmoid(sign * logit)


def _of_each_row(softmax: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Each row's factor in the loss (0 if target < 0) and its target's probability; both ``(N,)``."""
    p = softmax.gather(1, target.clamp(min=0)[:, None]).squeeze(1)
    factor = alpha * (target >= 0).to(p.dtype)
    return factor * _class_weight(weight, target) if weight.numel() else factor, p


def _one_hot(scores: Tensor, target: Tensor) -> Tensor:
    return (target[:, None] == torch.arange(scores.size(1), device=target.device)).to(scores.dtype)


def _class_weight(weight: Tensor, target: Tensor) -> Tensor:
    """The weight of each target's class, or 1 if the target is background."""
    known = (target >= 0) & (target < len(weight))
    return torch.where(known, weight[target.clamp(0, len(weight) - 1)], 1.0)


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=FLT_MIN).log()
