"""Non-maximum suppression: plain, soft, and with groups of suppressed boxes.

Boxes are ``(N, 4)`` corners ``x1, y1, x2, y2`` in pixels. With ``offset=1`` a box
covers ``x2 - x1 + 1`` pixels, as in the earliest detectors. The soft and the
grouping variants run on the CPU: mmcv's wrappers move the tensors there.
"""

from __future__ import annotations

import numpy as np
import torch
import torchvision
from torch import Tensor

from attn_mm.compat.mmcv_ops.precision import promoted

__all__ = ["nms", "nms_match", "softnms"]

# The numbers by which mmcv's wrapper hands over soft_nms's `method`.
NAIVE, LINEAR, GAUSSIAN = range(3)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the kept boxes, best score first."""
    boxes, scores = promoted(boxes, scores)
    return torchvision.ops.nms(_inclusive(boxes, offset), scores, iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., ICCV 2017): lower the scores of overlapping boxes.

    Writes the kept boxes with their lowered scores into the first rows of
    ``dets`` ``(N, 5)`` and returns their indices, in the order of selection.
    """
    boxes, scores = (tensor.detach() for tensor in promoted(boxes, scores))
    extents = _inclusive(boxes, offset).numpy()
    lowered = scores.numpy().copy()
    rest = np.arange(len(lowered))
    kept = []
    while rest.size:
        at = lowered[rest].argmax()
        best, rest = rest[at], np.delete(rest, at)
        kept.append(best)
        iou = _iou(extents[best], extents[rest])
        if method == GAUSSIAN:
            lowered[rest] *= np.exp(-(iou**2) / sigma)
        else:
            overlapping = iou >= iou_threshold
            lowered[rest[overlapping]] *= 1 - iou[overlapping] if method == LINEAR else 0
        rest = rest[lowered[rest] >= min_score]
    indices = torch.tensor(kept, dtype=torch.int64)
    dets[: len(kept), :4] = boxes[indices]
    dets[: len(kept), 4] = torch.from_numpy(lowered)[indices]
    return indices


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Return one group of indices per kept box of ``dets`` ``(N, 5)``: the box, then those it suppressed."""
    (dets,) = promoted(dets)
    boxes = dets[:, :4].numpy()
    order = dets[:, 4].sort(stable=True, descending=True).indices.numpy()
    groups = []
    while len(order):
        best, rest = order[0], order[1:]
        suppressed = _iou(boxes[best], boxes[rest]) >= iou_threshold
        groups.append([int(best), *rest[suppressed].tolist()])
        order = rest[~suppressed]
    return groups


def _inclusive(boxes: Tensor, offset: int) -> Tensor:
    return torch.cat((boxes[:, :2], boxes[:, 2:] + offset), dim=1) if offset else boxes


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of one box ``(4,)`` with others ``(N, 4)``; 0 where both are empty."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    intersection = sides.clip(0).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
