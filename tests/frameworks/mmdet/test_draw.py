"""Boxes over an image: labels are readable whatever the size and the place of their boxes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmdet.models")

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from attn_mm.frameworks.mmdet.draw import box_drawer


@pytest.mark.parametrize(("left", "top"), [(40, 200), (455, 200), (40, 465)])
def test_labels_of_small_boxes_are_whole_and_readable(left, top):
    image = np.full((480, 480, 3), 255, np.uint8)
    sample = DetDataSample()
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[left, top, left + 20.0, top + 14.0]]),
        labels=torch.tensor([0]),
        scores=torch.tensor([0.5]),
    )
    drawn = box_drawer({"classes": ("triangle",), "palette": [(255, 0, 0)]}, 0.3)(image, sample)
    # The label's dark ground; the white letters on it are at least 9 points of 1/96 inch high.
    rows, columns = np.nonzero((drawn < 80).all(axis=2))
    assert np.ptp(rows) + 1 >= 16
    assert columns.max() < 479 and np.ptp(columns) > 100


@pytest.mark.parametrize(("number", "top"), [(2, 100.0), (5, 100.0), (3, 450.0)])
def test_labels_of_equal_boxes_are_apart(number, top):
    image = np.full((480, 480, 3), 255, np.uint8)
    sample = DetDataSample()
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[100, top, 300, top + 20]] * number),
        labels=torch.arange(number) % 2,
        scores=torch.linspace(0.5, 0.4, number),
    )
    drawn = box_drawer({"classes": ("square", "circle"), "palette": [(255, 0, 0)] * 2}, 0.3)(image, sample)
    dark = (drawn < 80).all(axis=2).any(axis=1)
    assert dark.sum() >= number * 18
