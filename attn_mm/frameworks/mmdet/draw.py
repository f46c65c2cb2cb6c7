"""Draw boxes and masks over an image."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch.nn.functional as F

from attn_mm.maps.overlay import enlarged


def box_drawer(dataset_meta: dict, score_thr: float) -> Callable[[np.ndarray, object], np.ndarray]:
    """A function that draws the ``pred_instances`` of mmdet's data sample over an image, uint8, BGR.

    Args:
        dataset_meta: the model's, with the names and colours of the classes.
        score_thr: instances with a lower score are left out.
    """
    from attn_mm.frameworks.mmdet.box_visualizer import BoxVisualizer

    visualizer = BoxVisualizer(name="attn_mm_infer")
    visualizer.dataset_meta = dataset_meta

    def draw(image: np.ndarray, sample) -> np.ndarray:
        image, zoom = enlarged(image)
        if zoom > 1:
            sample = sample.clone()
            sample.pred_instances = enlarged_instances(sample.pred_instances, zoom, image.shape[:2])
        with warnings.catch_warnings():
            # mmengine warns of labels and outlines that touch the border.
            warnings.filterwarnings("ignore", message=".* is out of bounds")
            visualizer.add_datasample("", image[..., ::-1], sample, draw_gt=False, pred_score_thr=score_thr)
        return visualizer.get_image()[..., ::-1]

    return draw


def enlarged_instances(instances, zoom: float, size: tuple[int, int]):
    """Scale the boxes of mmdet's instances by ``zoom``, and resize their masks to ``size``, (H, W)."""
    instances = instances.clone()
    instances.bboxes = instances.bboxes * zoom
    if "masks" in instances:
        instances.masks = F.interpolate(instances.masks[:, None].float(), size)[:, 0] > 0.5
    return instances
