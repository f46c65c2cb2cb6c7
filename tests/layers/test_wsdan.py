"""WS-DAN's layers against loops over pixels and features."""

from __future__ import annotations

import pytest
import torch
from layers import reference_wsdan as reference

from attn_mm.layers import FeatureCentres, bilinear_attention_pooling
from attn_mm.layers.attention_regions import crop_and_enlarge, crop_boxes, drop_masks


def test_pooling_and_its_gradients():
    features = torch.randn(2, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    attention = torch.rand(2, 5, 2, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 5, 3, dtype=torch.float64)
    ours = bilinear_attention_pooling(features, attention)
    ours_grads = torch.autograd.grad((ours * weights).sum(), (features, attention))
    theirs = torch.stack([reference.pool(*pair) for pair in zip(features, attention)])
    theirs_grads = torch.autograd.grad((theirs * weights).sum(), (features, attention))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
    torch.testing.assert_close(ours_grads, theirs_grads, rtol=1e-6, atol=1e-8)


def test_pooling_of_parts_that_see_nothing_has_finite_gradients():
    features = torch.rand(1, 3, 2, 2, requires_grad=True)
    attention = torch.zeros(1, 2, 2, 2, requires_grad=True)
    pooled = bilinear_attention_pooling(features, attention)
    pooled.sum().backward()
    assert pooled.eq(0).all()
    assert features.grad.isfinite().all() and attention.grad.isfinite().all()


def test_pooling_is_in_float32_under_autocast():
    features, attention = torch.randn(2, 3, 4, 4), torch.rand(2, 5, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = bilinear_attention_pooling(features.bfloat16(), attention.bfloat16())
    assert pooled.dtype == torch.float32
    exact = bilinear_attention_pooling(features.bfloat16().double(), attention.bfloat16().double())
    torch.testing.assert_close(pooled.double(), exact, rtol=0, atol=1e-5)


def test_pooling_refuses_maps_of_other_sizes():
    with pytest.raises(ValueError, match=r"must agree in N, H and W, got \(2, 3, 4, 4\) and \(2, 5, 4, 3\)"):
        bilinear_attention_pooling(torch.ones(2, 3, 4, 4), torch.ones(2, 5, 4, 3))


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("size", [(12, 17), (5, 4)])
def test_crop_boxes_and_drop_masks(size, threshold):
    maps = torch.rand(6, 3, 4, dtype=torch.float64)
    maps[4] = 0
    maps[5] *= 1e-6
    boxes = crop_boxes(maps.float(), size, threshold)
    masks = drop_masks(maps.float(), size, threshold)
    assert masks.shape == (6, 1, *size)
    for map_, box, mask in zip(maps.float().tolist(), boxes.tolist(), masks):
        assert box == reference.box(map_, *size, threshold)
        dropped = {(i, j) for i, j in (mask[0] == 0).nonzero().tolist()}
        assert dropped == reference.attended(map_, *size, threshold)
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert boxes[4].tolist() == [0, 0, size[1], size[0]] and masks[4].eq(1).all()


def test_a_crop_is_enlarged_to_the_whole_size():
    images = torch.rand(2, 3, 6, 8, dtype=torch.float64)
    boxes = torch.tensor([[1, 2, 5, 3], [0, 0, 8, 6]])
    crops = crop_and_enlarge(images, boxes)
    for image, crop, (x1, y1, x2, y2) in zip(images, crops, boxes.tolist()):
        for channel, enlarged in zip(image[:, y1:y2, x1:x2].tolist(), crop):
            expected = torch.tensor(reference.resize(channel, 6, 8), dtype=torch.float64)
            torch.testing.assert_close(enlarged, expected)
    assert crops[1].equal(images[1])


@pytest.mark.parametrize("normalise", [True, False])
def test_the_centre_loss_and_the_moving_centres(normalise):
    ours = FeatureCentres(4, 5, beta=0.3, normalise=normalise).double()
    theirs = reference.Centres(4, 5, beta=0.3, normalise=normalise)
    for labels in ([0, 2, 2], [2, 3, 0], [1, 2, 2]):
        features = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
        loss, expected = ours(features, torch.tensor(labels)), theirs.loss(features, labels)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(
            torch.autograd.grad(loss, features), torch.autograd.grad(expected, features)
        )
        ours.update(features, torch.tensor(labels))
        theirs.update(features, labels)
        torch.testing.assert_close(ours.centres, torch.tensor(theirs.centres, dtype=torch.float64))


def test_centres_are_saved_and_are_no_parameters():
    centres = FeatureCentres(4, 5)
    assert list(centres.state_dict()) == ["centres"] and not list(centres.parameters())
