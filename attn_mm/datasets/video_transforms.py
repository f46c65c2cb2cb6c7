"""Transforms for mmaction's pipelines that decode videos with PyAV.

Use them instead of ``DecordInit`` and ``DecordDecode``, around any of mmaction's samplers::

    dict(type="attn_mm.OpenVideo"),
    dict(type="SampleFrames", clip_len=16, frame_interval=4),
    dict(type="attn_mm.ReadFrames"),
"""

from __future__ import annotations

import os.path as osp

import numpy as np

from attn_mm.datasets.video import Video
from attn_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class OpenVideo:
    """Open the video ``filename``; adds ``video_reader``, ``total_frames`` and ``avg_fps`` (None if unknown).

    Raises:
        UnreadableFile: when called, if the file can't be opened.
    """

    def __call__(self, results: dict) -> dict:
        path = results["filename"]
        # Like DecordInit: some lists name videos without a suffix.
        video = Video(path if osp.splitext(path)[1] else f"{path}.mp4")
        return dict(results, video_reader=video, total_frames=video.num_frames, avg_fps=video.rate)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@TRANSFORMS.register_module()
class SampleWholeVideo:
    """Sample the whole video in clips that don't overlap; add ``frame_inds``, ``num_clips``, ``clip_len``.

    A remainder of more than half a clip is a clip too, padded with its last frame. So is a video shorter
    than a clip. mmaction's ``UntrimmedSampleFrames`` with ``clip_interval=clip_len`` samples the same, but
    crashes on videos of up to half a clip.

    Args:
        clip_len: number of frames of a clip.
    """

    frame_interval = 1

    def __init__(self, clip_len: int) -> None:
        self.clip_len = clip_len

    def __call__(self, results: dict) -> dict:
        total = results["total_frames"]
        starts = np.arange(0, max(1, total - self.clip_len // 2), self.clip_len)
        places = np.minimum(starts[:, None] + np.arange(self.clip_len), total - 1)
        return dict(
            results,
            frame_inds=(places.ravel() + results["start_index"]).astype(np.int32),
            clip_len=self.clip_len,
            frame_interval=self.frame_interval,
            num_clips=len(starts),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(clip_len={self.clip_len})"


@TRANSFORMS.register_module()
class ReadFrames:
    """Decode the frames ``frame_inds`` of ``video_reader`` to ``imgs``, each (height, width, 3), uint8, RGB.

    Adds ``original_shape`` and ``img_shape``, (height, width). Converts the relative boxes ``gt_bboxes`` and
    ``proposals`` to pixels. Closes the video.

    Raises:
        UnreadableFile: when called, if a frame can't be decoded.
    """

    def __call__(self, results: dict) -> dict:
        frames = results["video_reader"].read(results["frame_inds"].ravel())
        results = dict(results, video_reader=None, imgs=list(frames))
        height, width = frames.shape[1:3]
        results["original_shape"] = results["img_shape"] = (height, width)
        for key in ("gt_bboxes", "proposals"):
            if results.get(key) is not None:
                results[key] = (results[key] * np.array([width, height, width, height])).astype(np.float32)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
