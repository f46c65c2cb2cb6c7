"""Data that can't be used is named in one line, before a run begins where that can be told.

In training a file that can't be read is named once and another sample takes its place, which is what
mmengine's data sets do where their pipeline gives None. In evaluation an image that can't be read ends
the run, since it would falsify the figures; a video, of which sets like Kinetics lose some every year,
is left out and counted.
"""

from __future__ import annotations

import contextlib
import os.path as osp
from collections.abc import Callable, Iterator

import torch
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset, Compose
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from attn_mm.engine.annotations import check_coco_boxes, check_coco_persons, check_voc, load_coco
from attn_mm.engine.configs import walk
from attn_mm.engine.stand_ins import StandIn, leave_out_stand_ins
from attn_mm.engine.unreadable import (
    KINDS,
    ReadFile,
    SkipUnreadable,
    Unread,
    flags_of_files,
    reading_steps,
)
from attn_mm.errors import UserError

# Of a training set's files so many are looked for before training; of a test set's images, all.
_SAMPLES = 32

_MMPOSE_BASE = "mmpose.datasets.datasets.base.base_coco_style_dataset"


def watch_data(runner: Runner) -> Runner:
    """Let ``runner`` check each data set and evaluator that it builds, and guard the reading of files.

    Raises:
        UserError: from the runner's ``train``, ``val`` and ``test``, before they begin: what the annotations
            lack, or that images are missing.
    """
    build_dataloader, build_evaluator = runner.build_dataloader, runner.build_evaluator
    evaluators = [runner.cfg.get(f"{split}_evaluator") or {} for split in ("val", "test")]
    # A set to be labelled has no boxes, and its results are only written to a file.
    unlabelled = any(node.get("format_only") for node in walk(evaluators))
    named = flags_of_files()

    def watched_dataloader(dataloader, *args, **kwargs):
        with _explained(dataloader, _explain_dataset):
            loader = build_dataloader(dataloader, *args, **kwargs)
        for dataset in _sources(loader.dataset):
            _check_boxes(dataset, unlabelled)
            _check_files(dataset)
            _guard(dataset, named)
        return loader

    def watched_evaluator(evaluator):
        with _explained(evaluator, lambda node: load_coco(node.ann_file)):
            built = build_evaluator(evaluator)
        for cfg, metric in zip(evaluator if isinstance(evaluator, list) else [evaluator], built.metrics):
            if type(metric).__name__ == "CocoMetric" and cfg.get("ann_file"):
                _check_metric(metric, cfg["ann_file"])
        if runner.cfg.get("default_scope") == "mmaction":
            for metric in built.metrics:
                leave_out_stand_ins(metric)
        return built

    runner.build_dataloader, runner.build_evaluator = watched_dataloader, watched_evaluator
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
    _check_annotations(dataset)
    dataset.full_init()
    if not len(dataset):
        raise _nothing_left(dataset)


def _nothing_left(dataset: BaseDataset) -> UserError:
    return UserError(
        f"{dataset.ann_file}: nothing in it can be used: it has no box of the config's classes, or no "
        "visible keypoint, inside an image, or the config's filter_cfg leaves all of them out"
    )


def _check_annotations(dataset: BaseDataset) -> None:
    """UserError where a look at the files of a data set of a known format tells what is wrong with them."""
    if _reads_like(dataset, "mmdet.datasets.xml_style.XMLDataset", "load_data_list"):
        check_voc(dataset.ann_file, osp.join(dataset.sub_data_root, dataset.ann_subdir))
    elif _reads_like(dataset, "mmdet.datasets.coco.CocoDataset", "load_data_list"):
        check_coco_boxes(dataset.ann_file, dataset.metainfo["classes"])
    elif _reads_like(dataset, f"{_MMPOSE_BASE}.BaseCocoStyleDataset", "_load_annotations"):
        check_coco_persons(dataset.ann_file)


def _reads_like(dataset: BaseDataset, name: str, method: str) -> bool:
    """Whether ``dataset`` has the methods of the class of that full name, which need not be installed."""
    bases = {f"{base.__module__}.{base.__name__}": base for base in type(dataset).__mro__}
    return name in bases and all(
        getattr(type(dataset), key) is getattr(bases[name], key) for key in (method, "parse_data_info")
    )


def _check_metric(metric, ann_file: str) -> None:
    """UserError where pycocotools, called by mmdet or mmpose, would miss something once all is predicted."""
    coco = getattr(metric, "_coco_api", None) or getattr(metric, "coco", None)
    if hasattr(metric, "use_area"):
        needed = ["bbox", "keypoints", *(["area"] if metric.use_area else [])]
    else:
        needed = ["bbox", "area", "iscrowd", *(["segmentation"] if "segm" in metric.metrics else [])]
    for annotation in coco.anns.values() if coco else []:
        for key in needed:
            if key not in annotation:
                raise UserError(
                    f"{ann_file}: the annotation with the id {annotation['id']} has no {key}, which the "
                    "evaluation needs"
                )


def _sources(dataset) -> Iterator[BaseDataset]:
    """The data sets that read files, wrappers opened."""
    inner = list(getattr(dataset, "datasets", []))
    inner += [getattr(dataset, name) for name in ("dataset", "_dataset") if hasattr(dataset, name)]
    for item in inner:
        yield from _sources(item)
    if not inner and isinstance(dataset, BaseDataset):
        yield dataset


def _check_boxes(dataset: BaseDataset, unlabelled: bool) -> None:
    """UserError where a detection set has no box; other data sets have their samples without any."""
    if unlabelled and dataset.test_mode:
        return
    infos = (BaseDataset.get_data_info(dataset, index) for index in range(len(dataset)))
    if not any(info.get("instances", True) for info in infos):
        _check_annotations(dataset)
        raise _nothing_left(dataset)


def _check_files(dataset: BaseDataset) -> None:
    """UserError where images of a test set are missing, or every file of those that are looked for."""
    if not len(dataset):
        return
    # The base class's: what mmpose's adds to each sample takes its time.
    first = BaseDataset.get_data_info(dataset, 0)
    key = next((key for key in KINDS if isinstance(first.get(key), str)), None)
    if key is None:
        return
    all_needed = dataset.test_mode and key == "img_path"
    step = 1 if all_needed else max(1, len(dataset) // _SAMPLES)
    paths = sorted({BaseDataset.get_data_info(dataset, index)[key] for index in range(0, len(dataset), step)})
    missing = [path for path in paths if _is_missing(path)]
    if missing and (all_needed or len(missing) == len(paths)):
        many = KINDS[key][1]
        others = f" and {len(missing) - 1} more of the {many}" if len(missing) > 1 else ""
        raise UserError(
            f"{missing[0]}{others} that {dataset.ann_file} lists: no such file; "
            f"put the {many} there or name their folder in the config's data_prefix"
        )


def _is_missing(path: str) -> bool:
    # Where a video's name has no suffix, .mp4 is meant.
    return "://" not in path and not osp.exists(path) and not osp.exists(f"{path}.mp4")


def _guard(dataset: BaseDataset, named: torch.Tensor) -> None:
    if not isinstance(dataset.pipeline, Compose):
        return
    # A data set with its own way of fetching may know no other sample in the place of None.
    fetches_again = type(dataset).__getitem__ is BaseDataset.__getitem__
    unread = Unread(named, "evaluation" if dataset.test_mode else "training", limited=not dataset.test_mode)
    steps = dataset.pipeline.transforms
    found = list(reading_steps(steps))
    for place, key, last in found:
        if fetches_again and (key == "filename" or not dataset.test_mode):
            steps[place] = SkipUnreadable(steps[place], key, unread, last)
        else:
            steps[place] = ReadFile(steps[place], key)
    if fetches_again and dataset.test_mode and any(key == "filename" for _, key, _ in found):
        dataset.prepare_data = StandIn(dataset, "filename")
