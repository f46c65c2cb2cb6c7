"""mmpose's 3D drawing reads its picture from Matplotlib."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmpose")


def test_3d_keypoints_are_drawn():
    from mmengine.structures import InstanceData
    from mmpose.structures import PoseDataSample
    from mmpose.visualization import Pose3dLocalVisualizer

    points = np.random.default_rng(0).normal(size=(1, 3, 3)).astype(np.float32)
    found = InstanceData(keypoints=points, keypoint_scores=np.ones((1, 3), np.float32))
    sample = PoseDataSample(pred_instances=found, gt_instances=found)
    drawer = Pose3dLocalVisualizer(det_kpt_color=None, det_dataset_skeleton=[(0, 1)])
    colors = {"keypoint_colors": np.full((3, 3), 200), "skeleton_link_colors": np.full((2, 3), 100)}
    drawer.set_dataset_meta({"skeleton_links": [(0, 1), (1, 2)], **colors})
    image = np.zeros((64, 64, 3), np.uint8)
    drawer.add_datasample(
        "pose", image, data_sample=sample, det_data_sample=sample, draw_gt=False, draw_2d=False
    )
    drawn = drawer.get_image()
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 10
