"""Classes and their scores over an image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from attn_mm.maps.overlay import enlarged


def class_drawer(dataset_meta: dict) -> Callable[[np.ndarray, object], np.ndarray]:
    """A function that writes the ``pred_label`` of mmpretrain's data sample over an image, uint8 BGR.

    Args:
        dataset_meta: the model's, for the names of the classes.
    """
    from mmpretrain.visualization import UniversalVisualizer

    visualizer = UniversalVisualizer(name="attn_mm_infer_cls")
    visualizer.dataset_meta = dataset_meta

    def draw(image: np.ndarray, sample) -> np.ndarray:
        return visualizer.visualize_cls(enlarged(image)[0][..., ::-1], sample, draw_gt=False)[..., ::-1]

    return draw
