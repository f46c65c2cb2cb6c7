"""Boxes and masks over an image."""

from __future__ import annotations

import torch.nn.functional as F


def enlarged_instances(instances, zoom: float, size: tuple[int, int]):
    instances = instances.clone()
    instances.bboxes = instances.bboxes * zoom
    if "masks" in instances:
        instances.masks = F.interpolate(instances.masks[:, None].float(), size)[:, 0] > 0.5
    return instances
