"""The part of xtcocotools' COCO interface that mmpose calls, built on pycocotools.

xtcocotools adds to the COCO evaluation of keypoints: custom sigmas, parts of the
whole body, persons without an annotated area, ignoring detections without a
visible keypoint, and CrowdPose's split by crowding. All of these only change
which annotations pycocotools evaluates.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict

import numpy as np
from pycocotools import coco, cocoeval

_WHOLE_BODY = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
_FIELDS = {
    "keypoints": ("keypoints",),
    "keypoints_crowd": ("keypoints",),
    "keypoints_body": ("keypoints",),
    "keypoints_foot": ("foot_kpts",),
    "keypoints_face": ("face_kpts",),
    "keypoints_lefthand": ("lefthand_kpts",),
    "keypoints_righthand": ("righthand_kpts",),
    "keypoints_wholebody": _WHOLE_BODY,
}
# A person's area where none is annotated, as a share of the box.
_AREA_OF_BOX = 0.53
# CrowdPose (Li et al., CVPR 2019): crowd index of easy, medium and hard images.
_CROWD_LEVELS = ((-np.inf, 0.2), (0.2, 0.8), (0.8, np.inf))


class COCO(coco.COCO):
    """Annotations in COCO's format; ``info`` and ``iscrowd`` are optional."""

    def __init__(self, annotation_file: str | None = None) -> None:
        super().__init__(annotation_file)
        self.dataset.setdefault("info", {})
        for annotation in self.anns.values():
            annotation.setdefault("iscrowd", 0)

    def loadRes(self, resFile):
        """Return the results as annotations. An empty list is allowed."""
        if isinstance(resFile, list) and not resFile:
            results = COCO()
            results.dataset.update(self.dataset, annotations=[])
            results.createIndex()
            return results
        return super().loadRes(resFile)


class COCOeval(cocoeval.COCOeval):
    """Average precision of keypoints by object keypoint similarity (OKS).

    Args:
        cocoGt: annotations.
        cocoDt: results, from ``cocoGt.loadRes``.
        iouType: ``'keypoints'``, ``'keypoints_crowd'``, or ``'keypoints_'`` plus a part:
            body, foot, face, lefthand, righthand, wholebody.
        sigmas: one standard deviation per keypoint, relative to the person's scale;
            defaults to COCO's 17.
        use_area: scale OKS by the annotated area instead of 0.53 times the box.

    Raises:
        ValueError: if ``iouType`` is unknown.
    """

    def __init__(self, cocoGt=None, cocoDt=None, iouType="keypoints", sigmas=None, use_area=True) -> None:
        if iouType not in _FIELDS:
            raise ValueError(
                f"iouType {iouType!r} needs the real xtcocotools; without it use one of {', '.join(_FIELDS)}"
            )
        super().__init__(cocoGt, cocoDt, "keypoints")
        self.kind = iouType
        self.use_area = use_area
        if sigmas is not None:
            self.params.kpt_oks_sigmas = np.asarray(sigmas)

    def _prepare(self) -> None:
        p = self.params
        selected = dict(imgIds=p.imgIds, catIds=p.catIds if p.useCats else [])
        self._gts, self._dts = defaultdict(list), defaultdict(list)
        # pycocotools takes the id 0 for "unmatched".
        for index, gt in enumerate(self.cocoGt.loadAnns(self.cocoGt.getAnnIds(**selected)), 1):
            keypoints = self._keypoints(gt)
            count = gt["num_keypoints"] if self.kind == "keypoints_crowd" else _visible(keypoints)
            ignore = count == 0 or gt["iscrowd"]
            view = dict(gt, id=index, keypoints=keypoints, ignore=ignore, area=self._area(gt))
            self._gts[gt["image_id"], gt["category_id"]].append(view)
        for dt in self.cocoDt.loadAnns(self.cocoDt.getAnnIds(**selected)):
            keypoints = self._keypoints(dt)
            if _visible(keypoints):
                self._dts[dt["image_id"], dt["category_id"]].append(dict(dt, keypoints=keypoints))
        self.evalImgs: defaultdict = defaultdict(list)
        self.eval: dict = {}

    def _keypoints(self, annotation: dict) -> list[float]:
        return [value for field in _FIELDS[self.kind] for value in annotation[field]]

    def _area(self, gt: dict) -> float:
        if self.use_area:
            return gt["area"]
        return gt["bbox"][2] * gt["bbox"][3] * _AREA_OF_BOX

    def summarize(self) -> None:
        """Print AP, AP50, AP75, AP medium and large, and the same of AR, and store them in ``stats``.

        For ``'keypoints_crowd'``, as CrowdPose reports: AP, AP50, AP75, AR, AR50, AR75,
        and AP of easy, medium and hard images.
        """
        super().summarize()
        if self.kind == "keypoints_crowd":
            levels = [self._average_precision(*bounds) for bounds in _CROWD_LEVELS]
            self.stats: np.ndarray = np.array([*self.stats[:3], *self.stats[5:8], *levels])
            print("AP of easy, medium and hard images:", *levels)

    def _average_precision(self, low: float, high: float) -> float:
        """AP of the images with a crowd index in ``[low, high)``."""
        images = self.cocoGt.dataset["images"]
        level = COCOeval(self.cocoGt, self.cocoDt, self.kind, self.params.kpt_oks_sigmas, self.use_area)
        level.params.imgIds = [image["id"] for image in images if low <= image["crowdIndex"] < high]
        with contextlib.redirect_stdout(io.StringIO()):
            level.evaluate()
            level.accumulate()
        return round(np.mean(level.eval["precision"][:, :, :, 0, :]), 4)


def _visible(keypoints: list[float]) -> int:
    return np.count_nonzero(np.array(keypoints[2::3]) > 0)
