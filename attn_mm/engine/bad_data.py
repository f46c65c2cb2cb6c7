"""Data that can't be used is named in one line, before a run begins where that can be told.

In training an image that can't be read is named once and another sample takes its place, which is what
mmengine's data sets do where their pipeline gives None. In evaluation, where a missing image
would falsify the figures, it ends the run.
"""

from __future__ import annotations

import contextlib
import os.path as osp
from collections.abc import Callable, Iterator

from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from attn_mm.engine.annotations import load_coco
from attn_mm.engine.configs import walk
from attn_mm.engine.labels import check_files, check_labels
from attn_mm.engine.unreadable import ReadImage, SkipUnreadable, flags_of_files
from attn_mm.errors import UserError

# Of a training set's images so many are looked for before training; of a test set's, all.
_SAMPLES = 32


def watch_data(runner: Runner) -> Runner:
    """Let ``runner`` check each data set and evaluator that it builds, and guard the reading of images.

    Raises:
        UserError: from the runner's ``train``, ``val`` and ``test``, before they begin: what the annotations
            lack, or that images are missing.
    """
    build_dataloader, build_evaluator = runner.build_dataloader, runner.build_evaluator
    evaluators = [runner.cfg.get(f"{split}_evaluator") or {} for split in ("val", "test")]
    # A set to be labelled has no boxes, and its results are only written to a file.
    unlabelled = any(node.get("format_only") for node in walk(evaluators))
    guard = _Guard()
    # Of the data set built last: a loop builds it before its evaluator.
    metainfo: dict = {}

    def watched_dataloader(dataloader, *args, **kwargs):
        with _explained(dataloader, _explain_dataset):
            loader = build_dataloader(dataloader, *args, **kwargs)
        _check_boxes(list(_sources(loader.dataset)), unlabelled)
        for dataset in _sources(loader.dataset):
            check_labels(dataset)
            _check_images(dataset)
        guard.take(loader.dataset)
        metainfo.update(getattr(loader.dataset, "metainfo", {}))
        return loader

    def watched_evaluator(evaluator):
        with _explained(evaluator, _explain_metric):
            built = build_evaluator(evaluator)
        for cfg, metric in zip(evaluator if isinstance(evaluator, list) else [evaluator], built.metrics):
            if type(metric).__name__ == "CocoMetric" and cfg.get("ann_file"):
                _check_metric(metric, cfg["ann_file"], metainfo)
        return built

    runner.build_dataloader, runner.build_evaluator = watched_dataloader, watched_evaluator
    runner.register_hook(guard)
    return runner


@contextlib.contextmanager
def _explained(cfg, explain: Callable[[ConfigDict], object]) -> Iterator[None]:
    """Where building ``cfg`` fails, let ``explain`` look for the fault in what names an annotation file."""
    try:
        yield
    except UserError:
        raise
    except Exception:
        for node in walk(cfg):
            if node.get("ann_file"):
                explain(node)
        raise


def _explain_dataset(cfg: ConfigDict) -> None:
    dataset = DATASETS.build(dict(cfg, lazy_init=True, serialize_data=False))
    check_files(dataset)
    dataset.full_init()
    if not len(dataset):
        raise _nothing_left(dataset)


def _explain_metric(cfg: ConfigDict) -> None:
    # Another metric's file may be of another format.
    kind = cfg.get("type")
    if getattr(kind, "__name__", str(kind)).rpartition(".")[2] == "CocoMetric":
        load_coco(cfg.ann_file)


def _nothing_left(dataset: BaseDataset) -> UserError:
    return UserError(
        f"{dataset.ann_file}: nothing in it can be used: it has no box of the config's classes, or no "
        "visible keypoint, inside an image, or the config's filter_cfg leaves all of them out"
    )


def _check_metric(metric, ann_file: str, metainfo: dict) -> None:
    """UserError where pycocotools, called by mmdet or mmpose, would fail once all is predicted."""
    coco = getattr(metric, "_coco_api", None) or getattr(metric, "coco", None)
    of_poses = hasattr(metric, "use_area")
    if of_poses:
        needed = ["bbox", "keypoints", *(["area"] if metric.use_area else [])]
    else:
        needed = ["bbox", "area", "iscrowd", *(["segmentation"] if "segm" in metric.metrics else [])]
    number = metainfo.get("num_keypoints") if of_poses and not metric.gt_converter else None
    for annotation in coco.anns.values() if coco else []:
        which = f"{ann_file}: the annotation with the id {annotation['id']}"
        for key in needed:
            value = annotation.get(key)
            if value is None or (key == "segmentation" and not value):
                raise UserError(f"{which} has no {key}, which the evaluation needs")
        if number and len(annotation["keypoints"]) not in (0, 3 * number):
            raise UserError(
                f"{which} has {len(annotation['keypoints'])} numbers as its keypoints, and the evaluation "
                f"needs 3 for each of the {number} of the data set's metainfo"
            )


def _inner(dataset) -> list:
    """The data sets that a wrapper holds."""
    named = (getattr(dataset, name) for name in ("dataset", "_dataset") if hasattr(dataset, name))
    return [*getattr(dataset, "datasets", ()), *named]


def _tree(dataset) -> Iterator:
    """A data set and all inside it."""
    yield dataset
    for inner in _inner(dataset):
        yield from _tree(inner)


def _sources(dataset) -> Iterator[BaseDataset]:
    """The data sets that read annotations, wrappers opened."""
    return (node for node in _tree(dataset) if isinstance(node, BaseDataset) and not _inner(node))


def _check_boxes(datasets: list[BaseDataset], unlabelled: bool) -> None:
    """UserError where a detection set has no box; other data sets have their samples without any."""
    boxless = [dataset for dataset in datasets if not _has_box(dataset)]
    for dataset in boxless:
        # Beside a set with boxes there may be one of backgrounds, or of images for semi-supervised learning.
        keeps_empty = (dataset.filter_cfg or {}).get("filter_empty_gt") is False
        adds_images = keeps_empty and len(boxless) < len(datasets)
        if not (unlabelled and dataset.test_mode) and not adds_images:
            check_files(dataset)
            raise _nothing_left(dataset)


def _has_box(dataset: BaseDataset) -> bool:
    infos = (BaseDataset.get_data_info(dataset, index) for index in range(len(dataset)))
    return any(info.get("instances", True) for info in infos)


def _check_images(dataset: BaseDataset) -> None:
    """UserError where images of a test set, or all of a training set's, are missing."""
    step = 1 if dataset.test_mode else max(1, len(dataset) // _SAMPLES)
    # The base class's: what mmpose's adds to each sample takes its time.
    infos = [BaseDataset.get_data_info(dataset, index) for index in range(0, len(dataset), step)]
    paths = sorted({info["img_path"] for info in infos if isinstance(info.get("img_path"), str)})
    missing = [path for path in paths if "://" not in path and not osp.exists(path)]
    if missing and (dataset.test_mode or len(missing) == len(paths)):
        others = f" and {len(missing) - 1} more of the images" if len(missing) > 1 else ""
        raise UserError(
            f"{missing[0]}{others} that {dataset.ann_file} lists: no such file; "
            "put the images there or name their folder in the config's data_prefix"
        )


class _Guard(Hook):
    """Puts the reading of images under guard, again where another hook gives a data set a new pipeline."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self._named = flags_of_files()

    def before_train_epoch(self, runner: Runner) -> None:
        self.take(runner.train_dataloader.dataset)

    def take(self, dataset) -> None:
        """Guard a data set and all inside it."""
        for node in _tree(dataset):
            steps = getattr(getattr(node, "pipeline", None), "transforms", [])
            steps[:] = [self._guarded(step, node) for step in steps]

    def _guarded(self, step: Callable, dataset) -> Callable:
        from mmcv.transforms import LoadImageFromFile

        if not isinstance(step, LoadImageFromFile):
            return step
        # A data set with its own way of fetching may know no other sample in the place of None.
        fetches_again = type(dataset).__getitem__ is BaseDataset.__getitem__
        skip = fetches_again and not dataset.test_mode
        return SkipUnreadable(step, self._named) if skip else ReadImage(step)
