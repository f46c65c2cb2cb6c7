"""Check that the files named in a config exist."""

from __future__ import annotations

import os.path as osp

from mmengine.config import Config, ConfigDict

from attn_mm.datasets.checks.annotations import check_bbox_file
from attn_mm.datasets.checks.classes import check_names
from attn_mm.datasets.checks.video_lists import check_video_list
from attn_mm.errors import UserError
from attn_mm.utils.config import datasets, evaluators, model_part, walk


def check_data(cfg: Config, splits) -> None:
    """Check the files that the data sets and evaluators of ``splits`` name.

    Raises:
        UserError: if an annotation file, image folder or detection file is missing, or if the detection file
            or the list of videos doesn't match.
    """
    for node in walk([cfg.get(f"{split}_dataloader") or {} for split in splits]):
        _check_classes(node)
    num_classes = model_part(cfg, "cls_head").get("num_classes")
    for node in datasets(cfg, splits):
        root = node.get("data_root") or ""
        prefix = node.get("data_prefix") or {}
        wanted = [node.get("ann_file"), *(prefix.values() if isinstance(prefix, dict) else [prefix])]
        if str(node.get("type")).rpartition(".")[2] == "ImageNet":
            wanted.append(node.get("split"))
        # A data set that names no file inside its root knows its own files.
        for name in [*filter(None, wanted)] or [""] * bool(root):
            _check_exists(osp.join(root, name))
        if node.get("bbox_file"):
            _check_bbox_file(node.bbox_file, osp.join(root, node.ann_file))
        if str(node.get("type")).rpartition(".")[2] == "VideoDataset" and "://" not in root + node.ann_file:
            several = node.get("multi_class", False)
            check_video_list(osp.join(root, node.ann_file), node.get("delimiter", " "), several, num_classes)
    for node in evaluators(cfg, splits):
        _check_exists(node.ann_file)


def _check_classes(node: ConfigDict) -> None:
    """Check the classes of a data set's config; a text is the name of a file that lists them."""
    meta = node.get("metainfo")
    for owner, where in ((node, "the data set's config"), (meta, "metainfo")):
        names = owner.get("classes") if isinstance(owner, dict) else None
        if names is not None and not (isinstance(names, str) and osp.isfile(names)):
            check_names(names, where)


def _is_missing(path: str) -> bool:
    return "://" not in path and not osp.exists(path)


def _check_exists(path: str) -> None:
    if _is_missing(path):
        raise UserError(
            f"{osp.abspath(path)} is missing: put the data set there (see docs/data.md), name its folder "
            "with --data-root, or use --demo, which needs no data"
        )


def _check_bbox_file(path: str, ann_file: str) -> None:
    if _is_missing(path):
        raise UserError(
            f"detection file {osp.abspath(path)} is missing: create it with attn-mm make-bbox-file, or use "
            "annotated boxes: --cfg-options test_dataloader.dataset.bbox_file=None (training: val_dataloader)"
        )
    if "://" not in path + ann_file:
        check_bbox_file(path, ann_file)
