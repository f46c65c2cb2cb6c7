"""The mathematics of LTPA's analyses, held to loops in float64 that follow the papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power
from torch import nn

from attn_mm.papers.ltpa.fgsm import ascent_signs, perturbed
from attn_mm.papers.ltpa.query_attention import relative_change, shifted_share
from attn_mm.papers.ltpa.weak_segmentation import binarise, combine, jaccard
from attn_mm.papers.ltpa.whitening import normalise_contrast, zca

CLASSES, PIXELS = 4, (3, 5, 4)


def classifier(scale: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 20, CLASSES)
    ).double()
    net[-1].weight.data *= scale
    return net


def loss_of_prediction(net, pixels: np.ndarray, label: int) -> float:
    """J = -log p_c of one image, in float64."""
    with torch.no_grad():
        scores = net(torch.from_numpy(pixels)[None] / 100).numpy()[0]
    scores = scores - scores.max()
    return float(np.log(np.exp(scores).sum()) - scores[label])


def test_signs_are_those_of_the_loss_by_finite_differences():
    net = classifier()
    pixels = np.random.default_rng(0).uniform(0, 255, (3, *PIXELS))
    signs, predicted = ascent_signs(lambda x: net(x / 100), torch.from_numpy(pixels))
    with torch.no_grad():
        assert predicted.tolist() == net(torch.from_numpy(pixels) / 100).argmax(1).tolist()
    for image, label, found in zip(pixels, predicted.tolist(), signs.numpy()):
        for place in np.ndindex(*PIXELS):
            step = np.zeros(PIXELS)
            step[place] = 1e-3
            slope = loss_of_prediction(net, image + step, label) - loss_of_prediction(
                net, image - step, label
            )
            assert found[place] == np.sign(slope), place


def test_a_certain_prediction_has_signs_too():
    """In float32 p_c rounds to 1, and the gradient of -log p_c to that of the others alone, or to zero."""
    net = classifier(scale=10000)
    pixels = torch.rand(2, *PIXELS, dtype=torch.float64) * 255
    with torch.no_grad():
        assert (net.float()(pixels.float() / 100).softmax(1).amax(1) == 1).all()
    found, _ = ascent_signs(lambda x: net(x / 100), pixels.float())
    net.double()
    for image, signs in zip(pixels, found):
        image = image[None].requires_grad_()
        scores = net(image / 100)[0]
        label = int(scores.argmax())
        # Of the derivative of J, sum_k p_k (s_k - s_c)', the positive factor sum_{k != c} p_k is left out.
        others = [k for k in range(CLASSES) if k != label]
        shares = (scores[others] - scores[others].max()).detach().exp()
        (sum(w * (scores[k] - scores[label]) for w, k in zip(shares, others))).backward()
        assert (signs.numpy() == np.sign(image.grad[0].numpy())).all()


def test_the_step_has_its_norm_and_stays_a_picture():
    pixels = torch.tensor([[0.0, 3.0, 100.0, 250.0, 255.0, 7.0]])
    signs = torch.tensor([[-1.0, -1.0, 1.0, 1.0, 1.0, 0.0]])
    assert perturbed(pixels, signs, 8).tolist() == [[0, 0, 108, 255, 255, 7]]


@pytest.mark.parametrize("shape", [(7, 12), (40, 12)], ids=["fewer images", "more images"])
def test_zca_against_its_definition(shape):
    images = np.random.default_rng(1).normal(size=shape) @ np.diag(np.linspace(0.1, 4, shape[1])) + 5
    number, size = shape
    means = [sum(row[k] for row in images) / number for k in range(size)]
    covariance = np.array(
        [
            [sum((r[j] - means[j]) * (r[k] - means[k]) for r in images) / number for k in range(size)]
            for j in range(size)
        ]
    )
    root = fractional_matrix_power(covariance + 0.1 * np.eye(size), -0.5)
    np.testing.assert_allclose(zca(images), (images - means) @ root, rtol=0, atol=1e-9)


def test_contrast_is_normalised_image_by_image():
    images = np.random.default_rng(2).integers(0, 256, (3, 12)).astype(np.uint8)
    images[1] = 77
    for image, found in zip(images, normalise_contrast(images)):
        values = [float(v) for v in image]
        centred = [v - sum(values) / 12 for v in values]
        norm = sum(v * v for v in centred) ** 0.5
        expected = [55 * v / norm for v in centred] if norm else [0.0] * 12
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def naive_combination(first, second):
    root = np.array([[(a * b) ** 0.5 for a, b in zip(x, y)] for x, y in zip(first, second)])
    return (root - root.min()) / (root.max() - root.min())


def naive_otsu(level):
    """Of 256 levels, what lies above the threshold with the greatest variance between its two sides."""
    grey = np.rint(255 * level).astype(int)
    best, threshold = -1.0, 0
    for candidate in range(255):
        below, above = grey[grey <= candidate], grey[grey > candidate]
        if len(below) and len(above):
            between = len(below) * len(above) * (below.mean() - above.mean()) ** 2 / grey.size**2
            if between > best * (1 + 1e-12):
                best, threshold = between, candidate
    return grey > threshold


def naive_jaccard(found, truth):
    inside = [{(y, x) for y, x in np.argwhere(mask).tolist()} for mask in (found, truth)]
    return len(inside[0] & inside[1]) / len(inside[0] | inside[1])


@pytest.mark.parametrize("seed", range(4))
def test_segments_against_naive_otsu_and_jaccard(seed):
    rng = np.random.default_rng(seed)
    blob = np.zeros((14, 18))
    blob[3:9, 5:14] = 1
    maps = [0.2 * rng.random(blob.shape) + blob * rng.uniform(0.3, 1, blob.shape) + 1e-3 for _ in range(2)]
    level = combine(maps)
    np.testing.assert_allclose(level, naive_combination(*maps), rtol=0, atol=1e-12)
    found = binarise(level)
    assert (found == naive_otsu(naive_combination(*maps))).all() and 0 < found.sum() < found.size
    truth = np.roll(blob, seed, axis=1) > 0
    assert jaccard(found, truth) == pytest.approx(naive_jaccard(found, truth), abs=1e-15)


def test_a_single_map_and_sequential_maps_have_no_root():
    maps = np.random.default_rng(3).random((2, 4, 5))
    for given, product in ((maps[:1], maps[0]), (maps, maps[0] * maps[1])):
        expected = (product - product.min()) / (product.max() - product.min())
        np.testing.assert_allclose(combine(given, root=len(given) == 1), expected, rtol=0, atol=1e-12)
    assert (combine([np.full((3, 3), 0.25)]) == 0).all(), "nothing stands out of a flat map"


def test_empty_masks_have_no_jaccard_index():
    empty = np.zeros((2, 2), bool)
    assert jaccard(empty, ~empty) == 0
    with pytest.raises(ValueError, match="two empty masks"):
        jaccard(empty, empty)


def test_what_a_query_moves():
    own, driven = np.array([[0.5, 0.25], [0.25, 0.0625]]), np.array([[0.25, 0.5], [0.25, 0.125]])
    np.testing.assert_array_equal(relative_change(own, driven), [[-0.5, 1], [0, 1]])
    rounded = relative_change(np.array([1.0, 0, 0]), np.array([0.5, 0.5, 0]))
    np.testing.assert_array_equal(rounded, [-0.5, np.inf, 0])
    assert shifted_share(np.array([0.5, 0.5, 0]), np.array([0.2, 0.3, 0.5])) == pytest.approx(0.5)
    assert shifted_share(own, own) == 0
