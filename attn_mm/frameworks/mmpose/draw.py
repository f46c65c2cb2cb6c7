"""Draw skeletons over an image."""

from __future__ import annotations

import numpy as np

from attn_mm.maps.overlay import enlarged

# Radius of a drawn keypoint as a share of the picture's longer side.
_RADIUS = 1 / 150


def skeleton_drawer(dataset_meta: dict, score_thr: float):
    """A function that draws the ``pred_instances`` of mmpose's data sample over an image, uint8, BGR.

    Args:
        dataset_meta: the model's, with the names, links and colours of the keypoints.
        score_thr: keypoints with a lower score are not drawn.
    """
    from mmpose.visualization import PoseLocalVisualizer

    visualizer = PoseLocalVisualizer(name="attn_mm_infer_pose")
    visualizer.set_dataset_meta(dataset_meta)

    def draw(image: np.ndarray, sample) -> np.ndarray:
        image, zoom = enlarged(image)
        # Cloning a sample does not clone its instances.
        sample, instances = sample.clone(), sample.pred_instances.clone()
        for key in ("keypoints", "bboxes"):
            instances.set_field(zoom * instances[key], key)
        sample.pred_instances = instances
        visualizer.radius = max(4, round(_RADIUS * max(image.shape[:2])))
        visualizer.line_width = max(2, visualizer.radius // 3)
        # OpenCV needs contiguous channels, hence the copy.
        drawn = visualizer.add_datasample(
            "", image[..., ::-1].copy(), sample, draw_gt=False, draw_bbox=True, kpt_thr=score_thr
        )
        return drawn[..., ::-1]

    return draw
