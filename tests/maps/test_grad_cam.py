"""Class activation maps against Grad-CAM's equations, written out with gradients of a network taken apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attn_mm.maps.grad_cam import METHODS, class_activation_maps

pytest.importorskip("pytorch_grad_cam")


def grad_cam(output: torch.Tensor, gradient: torch.Tensor) -> np.ndarray:
    """Equations 1 and 2, channel by channel and position by position."""
    output, gradient = output.detach().numpy(), gradient.numpy()
    maps = np.zeros((len(output), *output.shape[2:]))
    for image in range(len(output)):
        for channel in range(output.shape[1]):
            alpha = sum(gradient[image, channel].flat) / gradient[image, channel].size
            maps[image] += alpha * output[image, channel]
    return np.where(maps > 0, maps, 0)


def check(found: list[np.ndarray], outputs: list[torch.Tensor], value: torch.Tensor) -> None:
    gradients = torch.autograd.grad(value, outputs)
    assert len(found) == len(outputs)
    for each, output, gradient in zip(found, outputs, gradients):
        expected = grad_cam(output, gradient)
        assert expected.max() > 0
        np.testing.assert_allclose(each, expected, rtol=0, atol=1e-10)


class Twice(nn.Module):
    """A layer that runs twice, on maps of two sizes, and that an in-place layer follows."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv, self.pool = (nn.Conv2d, F.avg_pool2d) if dims == 2 else (nn.Conv3d, F.avg_pool3d)
        self.first, self.shared = conv(3, 4, 3, padding=1), conv(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.classify = nn.Linear(4, 5)
        nn.init.uniform_(self.classify.weight)

    def forward(self, x):
        x = self.relu(self.shared(self.first(x)))
        return self.classify(self.relu(self.shared(self.pool(x, 2))).flatten(2).mean(2))


@pytest.mark.parametrize("dims", [2, 3])
def test_each_call_of_a_layer_has_its_map(dims):
    net = Twice(dims).double().eval()
    x = torch.randn(2, 3, *[6] * dims, dtype=torch.float64)
    found = class_activation_maps(
        lambda: net(x)[range(2), [1, 3]].sum(), {"first": net.first, "shared": net.shared}
    )

    first = net.first(x)
    fine = net.shared(first)
    coarse = net.shared(net.pool(fine.relu(), 2))
    scores = net.classify(coarse.relu().flatten(2).mean(2))
    check(found["first"] + found["shared"], [first, fine, coarse], scores[0, 1] + scores[1, 3])
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not net.first._forward_hooks


def test_a_call_without_influence_has_a_map_of_zeros():
    net = Twice(2).double().requires_grad_(False)
    x, y = torch.randn(2, 1, 3, 6, 6, dtype=torch.float64)

    def score():
        shared = net.shared(net.first(x))
        net.shared(net.first(y))
        return shared.mean()

    with torch.no_grad():
        found = class_activation_maps(score, {"shared": net.shared, "unused": net.classify})
    output = net.shared(net.first(x)).requires_grad_()
    check(found["shared"][:1], [output], output.mean())
    assert not found["shared"][1].any()
    assert found["unused"] == []


def test_the_library_agrees_on_a_layer_that_runs_once():
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    x = torch.randn(1, 3, 8, 8)
    (found,) = class_activation_maps(lambda: net(x)[0, 2], {"conv": net[0]})["conv"]
    with GradCAM(net, [net[0]]) as cam:
        scaled = cam(x, [ClassifierOutputTarget(2)])
    np.testing.assert_allclose((found - found.min()) / np.ptp(found), scaled, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_knows_images_and_clips(method, dims):
    net = Twice(dims)
    x = torch.randn(2, 3, *[6] * dims)
    fine, coarse = class_activation_maps(lambda: net(x)[:, 0].sum(), {"": net.shared}, method)[""]
    assert fine.shape == (2, *[6] * dims) and coarse.shape == (2, *[3] * dims)
    assert fine.min() >= 0 and coarse.min() >= 0


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match=r"one of GradCAM, .*, got 'SmoothGrad'"):
        class_activation_maps(lambda: torch.zeros(()), {}, "SmoothGrad")
