"""The images' normalisation of cifar.torch against a pixel by pixel computation in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from attn_mm.utils.config import load_config

pytest.importorskip("mmpretrain")

MEAN, STD = (-4.25, 2.5), (13.5, 17.25)


def build(**options):
    config = dict(type="attn_mm.LocalContrast", mean=MEAN, std=STD, **options)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return MODELS.build(config).double()


def reference(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (3, H, W): rgb2yuv, SpatialContrastiveNormalization(1, gaussian1D(7)), U's and V's."""
    red, green, blue = np.moveaxis(rgb.astype(np.float64), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    u = -0.14713 * red - 0.28886 * green + 0.436 * blue
    v = 0.615 * red - 0.51499 * green - 0.10001 * blue
    weights = [math.exp(-(((i - 4) / (0.25 * 7)) ** 2) / 2) for i in range(1, 8)]
    height, width = luma.shape

    def around(values, y, x):
        """The weighted sum over the 7x7 pixels around a pixel, and the weights' sum inside the image."""
        total = inside = 0.0
        for i, row in enumerate(weights):
            for j, column in enumerate(weights):
                at = y + i - 3, x + j - 3
                if 0 <= at[0] < height and 0 <= at[1] < width:
                    weight = row * column / sum(weights) ** 2
                    total, inside = total + weight * values[at], inside + weight
        return total, inside

    centred = np.zeros_like(luma)
    for y in range(height):
        for x in range(width):
            total, inside = around(luma, y, x)
            centred[y, x] = luma[y, x] - total / inside
    found = np.zeros_like(luma)
    for y in range(height):
        for x in range(width):
            total, inside = around(centred**2, y, x)
            deviation = math.sqrt(total) / inside
            found[y, x] = centred[y, x] / (deviation if deviation > 1e-4 else 1e-4)
    return np.stack([found, (u - MEAN[0]) / STD[0], (v - MEAN[1]) / STD[1]])


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Two images (H, W, 3); a part of the second is flat."""
    images = np.random.default_rng(0).integers(0, 256, (2, 10, 13, 3), np.uint8)
    images[1, :, 4:] = 77
    return images


def test_equals_the_pixel_by_pixel_computation(images):
    expected = np.stack([reference(image) for image in images])
    as_rgb = torch.from_numpy(images).permute(0, 3, 1, 2)
    for to_rgb, inputs in ((False, as_rgb), (True, as_rgb.flip(1))):
        layer = build(to_rgb=to_rgb)
        # The layer has these in single precision.
        kernel = np.array([math.exp(-((i / 1.75) ** 2) / 2) for i in range(-3, 4)])
        layer.kernel = torch.from_numpy(kernel / kernel.sum())
        yuv = [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]
        layer.yuv = torch.tensor(yuv, dtype=torch.float64)
        ours = layer._normalised(as_rgb.double()).numpy()
        assert ours.shape == (2, 3, 10, 13) and np.abs(ours - expected).max() < 1e-9
        # Classifiers hand over bytes, as a batch or a list; where an image is flat, rounding decides.
        for batch in (inputs, list(inputs)):
            ours = layer.float()({"inputs": batch})["inputs"]
            assert ours.dtype == torch.float32
            assert np.abs(ours.numpy()[0] - expected[0]).max() < 1e-3


def test_its_gradient_is_finite_and_right(images):
    layer = build(to_rgb=False)
    x = torch.from_numpy(images[:1, :5, :5]).permute(0, 3, 1, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer._normalised(x), (x,))
    flat = torch.full((1, 3, 8, 8), 9.0, dtype=torch.float64, requires_grad=True)
    layer._normalised(flat).sum().backward()
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize(
    "options",
    [dict(mean=(1, 2, 3)), dict(std=(1,)), dict(std=(0, 1)), dict(batch_augments=dict(augments=[]))],
    ids=str,
)
def test_what_it_refuses(options):
    with pytest.raises(ValueError, match=r"must be those of U and V|would mix images"):
        config = dict(dict(type="attn_mm.LocalContrast", mean=MEAN, std=STD), **options)
        MODELS.build(config)


def test_the_configs_have_the_statistics_of_the_rgb_means():
    """U's and V's means follow from those of red, green and blue."""
    red, green, blue = load_config("configs/ltpa/vgg_plain_300e_cifar10.py").data_preprocessor.mean
    u = -0.14713 * red - 0.28886 * green + 0.436 * blue
    v = 0.615 * red - 0.51499 * green - 0.10001 * blue
    for name in ("vgg_plain", "vgg_ltpa-att2-concat-pc"):
        found = load_config(f"configs/ltpa/{name}_300e_cifar10-yuv.py").data_preprocessor
        assert found.mean == pytest.approx([u, v], abs=1e-3)
