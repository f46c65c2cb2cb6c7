"""Focal loss against the paper's formula, in float64, one logit at a time."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("mmcv")
from mmcv.ops import SigmoidFocalLoss, SoftmaxFocalLoss, sigmoid_focal_loss

ALPHA = 0.3
CLASSES = 4
WEIGHT = [0.5, 2.0, 1.25, 0.75]


def make_logits(count: int, device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, CLASSES, generator=generator, dtype=torch.float64)
    return logits.to(device).requires_grad_()


def term(p, gamma: float, alpha: float):
    return -alpha * (1 - p) ** gamma * p.log()


def sigmoid_loss(logits, target, gamma, weight) -> torch.Tensor:
    rows = []
    for row, t in zip(logits, target.tolist(), strict=True):
        for c, x in enumerate(row):
            p = 1 / (1 + torch.exp(-x))
            loss = term(p, gamma, ALPHA) if c == t else term(1 - p, gamma, 1 - ALPHA)
            rows.append(loss * weight[t] if weight else loss)
    return torch.stack(rows).reshape(logits.shape)


def softmax_loss(logits, target, gamma, weight) -> torch.Tensor:
    rows = []
    for row, t in zip(logits, target.tolist(), strict=True):
        p = row[t].exp() / row.exp().sum()
        loss = term(p, gamma, ALPHA)
        rows.append(loss * weight[t] if weight else loss)
    return torch.stack(rows)


def assert_same(actual, expected, logits, compiled) -> None:
    # Compiled mmcv takes its exponential in float32.
    tolerance = 1e-5 if compiled else 1e-11
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
    (found,) = torch.autograd.grad(actual.sum(), logits)
    (wanted,) = torch.autograd.grad(expected.sum(), logits)
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


REDUCTIONS = {"none": lambda x, n: x, "sum": lambda x, n: x.sum(), "mean": lambda x, n: x.sum() / n}


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_sigmoid_focal_loss(device, compiled, no_cpu_kernel, reduction, gamma, weight):
    logits = make_logits(7, device)
    target = torch.tensor([0, 1, 2, 3, 3, 0, 1], device=device)
    factors = None if weight is None else torch.tensor(weight, dtype=torch.float64, device=device)
    actual = SigmoidFocalLoss(gamma, ALPHA, factors, reduction)(logits, target)
    expected = REDUCTIONS[reduction](sigmoid_loss(logits, target, gamma, weight), 7)
    assert_same(actual, expected, logits, compiled)


def test_other_targets_are_background(device, compiled, no_cpu_kernel):
    logits = make_logits(3, device)
    target = torch.tensor([CLASSES, -1, 2], device=device)
    actual = sigmoid_focal_loss(logits, target, 2.0, ALPHA, None, "none")
    assert_same(actual, sigmoid_loss(logits, target, 2.0, None), logits, compiled)


def test_background_has_no_class_weight(device, served_only):
    logits = make_logits(3, device)
    target = torch.tensor([CLASSES, -1, 2], device=device)
    factors = torch.tensor(WEIGHT, dtype=torch.float64, device=device)
    actual = sigmoid_focal_loss(logits, target, 2.0, ALPHA, factors, "none")
    expected = sigmoid_loss(logits, target, 2.0, {CLASSES: 1.0, -1: 1.0, 2: WEIGHT[2]})
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_logarithm_is_held_above_flt_min(device, dtype, no_cpu_kernel):
    logits = torch.tensor([[-200.0, 200.0]], dtype=dtype, device=device, requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([0], device=device), 2.0, ALPHA, None, "none")
    limit = 126 * math.log(2)  # -log(FLT_MIN)
    expected = torch.tensor([[ALPHA * limit, (1 - ALPHA) * limit]], dtype=dtype, device=device)
    torch.testing.assert_close(loss, expected)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(grad, torch.tensor([[-ALPHA, 1 - ALPHA]], dtype=dtype, device=device))


def test_float32_keeps_its_digits_where_p_rounds_to_one(device, served_only):
    logits = torch.tensor([[20.0, -20.0, 30.0, -40.0]], device=device, requires_grad=True)
    target = torch.tensor([1], device=device)
    exact = logits.detach().double()
    loss = sigmoid_focal_loss(logits, target, 2.0, ALPHA, None, "none")
    # For such logits -log(1 - p) = x and -log(p) = -x up to 1e-8, and the modulating factor is 1.
    factors = torch.tensor([[1 - ALPHA, ALPHA, 1 - ALPHA, 0.0]], device=device)
    torch.testing.assert_close(loss.double(), factors.double() * exact.abs(), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_softmax_focal_loss(device, compiled, no_cpu_kernel, reduction, gamma, weight):
    logits = make_logits(7, device)
    target = torch.tensor([0, 1, 2, 3, 3, 0, 1], device=device)
    factors = None if weight is None else torch.tensor(weight, dtype=torch.float64, device=device)
    actual = SoftmaxFocalLoss(gamma, ALPHA, factors, reduction)(logits, target)
    expected = REDUCTIONS[reduction](softmax_loss(logits, target, gamma, weight), 7)
    assert_same(actual, expected, logits, compiled)


def test_softmax_ignores_negative_targets(device, no_cpu_kernel):
    logits = make_logits(2, device)
    loss = SoftmaxFocalLoss(2.0, ALPHA, None, "none")(logits, torch.tensor([-1, 1], device=device))
    assert loss[0] == 0
    assert loss[1] > 0
    total = SoftmaxFocalLoss(2.0, ALPHA, None, "sum")(logits, torch.tensor([-1, 1], device=device))
    (grad,) = torch.autograd.grad(total, logits)
    assert grad[0].abs().max() == 0
    assert grad[1].abs().max() > 0


def test_softmax_gradient_is_finite_where_p_is_one(device, served_only):
    logits = torch.tensor([[200.0, 0.0, 0.0, 0.0]], device=device, requires_grad=True)
    loss = SoftmaxFocalLoss(0.5, ALPHA)(logits, torch.tensor([0], device=device))
    (grad,) = torch.autograd.grad(loss, logits)
    assert grad.abs().max() == 0


def test_no_rows(device, no_cpu_kernel, served_only):
    logits = make_logits(0, device)
    target = torch.zeros(0, dtype=torch.long, device=device)
    for module in (SigmoidFocalLoss(2.0, ALPHA, None, "sum"), SoftmaxFocalLoss(2.0, ALPHA, None, "sum")):
        loss = module(logits, target)
        assert loss == 0
        loss.backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(device, dtype, served_only):
    logits = make_logits(7, device)
    half = logits.detach().to(dtype).requires_grad_()
    target = torch.tensor([0, 1, 2, 3, CLASSES, 0, 1], device=device)
    loss = sigmoid_focal_loss(half, target, 2.0, ALPHA, None, "none")
    exact = half.detach().double().requires_grad_()
    expected = sigmoid_loss(exact, target, 2.0, None)
    assert loss.dtype == dtype
    precision = torch.finfo(dtype).eps
    torch.testing.assert_close(loss.double(), expected, rtol=precision, atol=precision)
    (found,) = torch.autograd.grad(loss.sum(), half)
    (wanted,) = torch.autograd.grad(expected.sum(), exact)
    torch.testing.assert_close(found.double(), wanted, rtol=precision, atol=precision)
