"""mmpretrain's asymmetric loss against the paper's formula, in float64.

Ridnik et al., Asymmetric Loss for Multi-Label Classification, ICCV 2021
(https://arxiv.org/abs/2009.14119).
"""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("mmpretrain.models")

from mmengine.registry import MODELS, DefaultScope
from mmpretrain.models.losses import AsymmetricLoss
from mmpretrain.structures import DataSample


def asymmetric(logit, positive, gamma_pos, gamma_neg, margin):
    """The loss of one logit and its derivative, written out."""
    p = 1 / (1 + math.exp(-logit))
    slope = p * (1 - p)
    if positive:
        loss = -((1 - p) ** gamma_pos) * math.log(p)
        by_p = -((1 - p) ** gamma_pos) / p
        if gamma_pos:
            by_p += gamma_pos * (1 - p) ** (gamma_pos - 1) * math.log(p)
        return loss, by_p * slope
    shifted = max(p - margin, 0)
    if shifted == 0:
        return 0.0, 0.0
    loss = -(shifted**gamma_neg) * math.log(1 - shifted)
    by_p = shifted**gamma_neg / (1 - shifted)
    if gamma_neg:
        by_p -= gamma_neg * shifted ** (gamma_neg - 1) * math.log(1 - shifted)
    return loss, by_p * slope


@pytest.mark.parametrize(
    "gammas", [(0.0, 4.0, 0.05), (1.0, 4.0, 0.05), (0.0, 0.0, 0.0), (2.0, 2.0, 0.0), (0.5, 3.0, 0.2)]
)
def test_loss_and_gradient_are_the_formulas(gammas):
    gamma_pos, gamma_neg, margin = gammas
    logits = torch.linspace(-9, 9, 30, dtype=torch.float64).reshape(5, 6)[:, torch.randperm(6)]
    logits.requires_grad_()
    targets = torch.randint(2, (5, 6))
    loss = AsymmetricLoss(gamma_pos=gamma_pos, gamma_neg=gamma_neg, clip=margin, reduction="none")
    ours = loss(logits, targets)
    (gradient,) = torch.autograd.grad(ours.sum(), logits)
    pairs = [
        asymmetric(logit, target, gamma_pos, gamma_neg, margin)
        for logit, target in zip(logits.flatten().tolist(), targets.flatten().tolist())
    ]
    expected = torch.tensor(pairs, dtype=torch.float64).reshape(5, 6, 2)
    torch.testing.assert_close(ours, expected[..., 0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, expected[..., 1], rtol=1e-9, atol=1e-12)


def test_of_logits_that_saturate_it_is_finite():
    logits = torch.tensor([[-200.0, 200.0, -200.0, 200.0]], requires_grad=True)
    loss = AsymmetricLoss(gamma_pos=0.0, gamma_neg=4.0, clip=0.05)(logits, torch.tensor([[1, 1, 0, 0]]))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_the_head_sums_over_classes_and_averages_over_images():
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        head = MODELS.build(
            dict(
                type="MultiLabelLinearClsHead",
                num_classes=5,
                in_channels=3,
                loss=dict(type="AsymmetricLoss", gamma_pos=0.0, gamma_neg=4.0, clip=0.05),
            )
        ).double()
    features = torch.randn(2, 3, dtype=torch.float64)
    labels = [[0, 3], []]
    samples = [DataSample().set_gt_label(label) for label in labels]
    scores = head((features,)).tolist()
    terms = [asymmetric(scores[n][c], c in labels[n], 0.0, 4.0, 0.05)[0] for n in range(2) for c in range(5)]
    ours = head.loss((features,), samples)["loss"]
    assert ours.item() == pytest.approx(sum(terms) / 2)
