"""Non-maximum suppression against loops over pairs of boxes, in Python's float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

pytest.importorskip("mmcv")
from mmcv.ops import batched_nms, nms, nms_match, soft_nms

THRESHOLD = 0.45


def make_boxes(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping boxes at whole pixels (exact in every float type) and distinct scores."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 30, (count, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 25, (count, 2))], axis=1)
    scores = (rng.permutation(count) + 1) / 128
    return torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores, dtype=torch.float32)


def iou(a, b, offset: int) -> float:
    def area(x1, y1, x2, y2):
        return max(x2 - x1 + offset, 0) * max(y2 - y1 + offset, 0)

    common = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    return common / (area(*a) + area(*b) - common)


def greedy(boxes, scores, offset: int = 0, threshold: float = THRESHOLD) -> list[int]:
    boxes, scores = boxes.tolist(), scores.tolist()
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[k], offset) <= threshold for k in kept):
            kept.append(i)
    return kept


def soft(boxes, scores, method, offset, sigma, min_score) -> tuple[list[int], list[float]]:
    boxes, scores = boxes.tolist(), scores.tolist()
    rest, kept, final = list(range(len(boxes))), [], []
    while rest:
        best = max(rest, key=lambda i: scores[i])
        rest.remove(best)
        kept.append(best)
        final.append(scores[best])
        for i in rest:
            overlap = iou(boxes[best], boxes[i], offset)
            if method == "gaussian":
                scores[i] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= THRESHOLD:
                scores[i] *= 1 - overlap if method == "linear" else 0
        rest = [i for i in rest if scores[i] >= min_score]
    return kept, final


@pytest.mark.parametrize("offset", [0, 1])
def test_nms(device, offset):
    boxes, scores = make_boxes(90)
    expected = greedy(boxes, scores, offset)
    assert expected != greedy(boxes, scores, 1 - offset)
    dets, kept = nms(boxes.to(device), scores.to(device), THRESHOLD, offset=offset)
    assert kept.tolist() == expected
    assert torch.equal(dets.cpu(), torch.cat([boxes[expected], scores[expected, None]], dim=1))


def test_nms_filters_scores_and_limits_the_number(device):
    boxes, scores = make_boxes(90)
    expected = [i for i in greedy(boxes, scores) if scores[i] > 0.3][:5]
    _, kept = nms(boxes.to(device), scores.to(device), THRESHOLD, score_threshold=0.3, max_num=5)
    assert kept.tolist() == expected


def test_nms_of_arrays():
    boxes, scores = make_boxes(40)
    dets, kept = nms(boxes.numpy(), scores.numpy(), THRESHOLD)
    assert isinstance(dets, np.ndarray)
    assert kept.tolist() == greedy(boxes, scores)


def test_nms_of_no_boxes(device):
    dets, kept = nms(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), THRESHOLD)
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


@pytest.mark.parametrize(
    "types",
    [(torch.float16,) * 2, (torch.bfloat16,) * 2, (torch.float16, torch.float32), (torch.float64,) * 2],
    ids=str,
)
def test_nms_of_other_number_types(device, types, served_only):
    boxes, scores = make_boxes(90)
    dets, kept = nms(boxes.to(device, types[0]), scores.to(device, types[1]), THRESHOLD, offset=1)
    assert kept.tolist() == greedy(boxes, scores, 1)
    assert dets.dtype == torch.promote_types(*types)


@pytest.mark.parametrize("split_thr", [10000, 10])
def test_batched_nms_keeps_classes_apart(device, split_thr):
    boxes, scores = make_boxes(90)
    labels = torch.arange(90) % 3
    expected = []
    for label in range(3):
        members = (labels == label).nonzero().flatten()
        expected += [members[i].item() for i in greedy(boxes[members], scores[members])]
    expected.sort(key=lambda i: -scores[i])
    assert len(expected) > len(greedy(boxes, scores))
    dets, kept = batched_nms(
        boxes.to(device),
        scores.to(device),
        labels.to(device),
        dict(type="nms", iou_threshold=THRESHOLD, split_thr=split_thr),
    )
    assert kept.tolist() == expected
    assert torch.equal(dets.cpu(), torch.cat([boxes[expected], scores[expected, None]], dim=1))


@pytest.mark.parametrize("min_score", [0.0, 0.2])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms(device, method, offset, min_score):
    boxes, scores = make_boxes(60)
    before = scores.clone()
    expected, final = soft(boxes, scores, method, offset, sigma=0.3, min_score=min_score)
    if min_score:
        assert len(expected) < 60
    dets, kept = soft_nms(boxes.to(device), scores.to(device), THRESHOLD, 0.3, min_score, method, offset)
    # Boxes of equal score, the zeros that `naive` leaves, come in no given order.
    ranked = sum(score > 0 for score in final)
    assert kept.tolist()[:ranked] == expected[:ranked]
    assert sorted(kept.tolist()) == sorted(expected)
    torch.testing.assert_close(dets[:, :4].cpu(), boxes[kept.cpu()], rtol=0, atol=0)
    torch.testing.assert_close(dets[:, 4].cpu().double(), torch.tensor(final).double(), rtol=1e-5, atol=1e-7)
    assert torch.equal(scores, before)


def test_soft_nms_keeps_the_best_box_even_below_the_minimum():
    boxes, scores = make_boxes(5)
    dets, kept = soft_nms(boxes, scores, min_score=2.0)
    assert kept.tolist() == [scores.argmax().item()]
    assert dets.shape == (1, 5)


def test_soft_nms_of_no_boxes():
    dets, kept = soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)


def test_nms_match(device):
    boxes, scores = make_boxes(60)
    rest = sorted(range(60), key=lambda i: -scores[i])
    expected = []
    while rest:
        best = rest[0]
        group = [i for i in rest[1:] if iou(boxes[best].tolist(), boxes[i].tolist(), 0) >= THRESHOLD]
        expected.append([best, *group])
        rest = [i for i in rest[1:] if i not in group]
    groups = nms_match(torch.cat([boxes, scores[:, None]], dim=1).to(device), THRESHOLD)
    assert [group.tolist() for group in groups] == expected
    assert nms_match(torch.zeros(0, 5, device=device), THRESHOLD) == []
