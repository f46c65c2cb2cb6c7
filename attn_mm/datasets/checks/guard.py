"""Reports unusable data in one line, before a run if possible.

In training, an unreadable file is reported once and replaced by another sample, as mmengine's data sets do if
their pipeline returns None. In evaluation, an unreadable image stops the run, because it would falsify the
results. An unreadable video is left out and counted, because sets like Kinetics lose some every year.
"""

from __future__ import annotations

import contextlib
import os.path as osp
from collections.abc import Callable, Iterator

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from attn_mm.datasets.checks.annotations import load_coco
from attn_mm.datasets.checks.labels import check_files, check_labels
from attn_mm.datasets.checks.skipped_files import StandIns, WithoutStandIns
from attn_mm.datasets.checks.unreadable import (
    KINDS,
    SkipUnreadable,
    Unread,
    flags_of_files,
    name_unreadable,
    reading_steps,
)
from attn_mm.errors import UserError
from attn_mm.utils.config import walk

# The number of a training set's files that are checked before training; of a test set, all are.
_SAMPLES = 32


def open_test_set(cfg: Config, pipeline: list[dict] | None = None) -> BaseDataset:
    """Build a config's test set, with a runner's checks of its data.

    Args:
        cfg: the config.
        pipeline: replaces the config's pipeline.

    Raises:
        UserError: if the set is empty, annotations are incomplete, or files are missing.
    """
    node = dict(cfg.test_dataloader.dataset, test_mode=True)
    if pipeline is not None:
        node["pipeline"] = pipeline
    watch = Watch(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        with _explained(node, _explain_dataset):
            dataset = DATASETS.build(node)
        if not len(dataset):
            raise UserError(f"the test set of {cfg.filename} is empty")
        watch.look_at(dataset)
    return dataset


def open_evaluation(cfg: Config) -> tuple[DataLoader, Evaluator]:
    """Build a config's test set and evaluator without a runner, with a runner's checks of its data.

    Raises:
        UserError: if annotations are incomplete or files are missing.
    """
    watch = Watch(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = watch.dataloader(Runner.build_dataloader, cfg.test_dataloader)
        evaluator = watch.evaluator(Evaluator, cfg.test_evaluator)
    evaluator.dataset_meta = getattr(loader.dataset, "metainfo", None)
    return loader, evaluator


class Watch:
    """Builds the data sets and evaluators of a config and checks them."""

    def __init__(self, cfg: Config) -> None:
        evaluators = [cfg.get(f"{split}_evaluator") or {} for split in ("val", "test")]
        # A set without labels has no boxes; its results are only written to a file.
        self._unlabelled = any(node.get("format_only") for node in walk(evaluators))
        # Of the last data set; a loop builds it before its evaluator.
        self._metainfo: dict = {}
        self._has_stand_ins = False
        self.guard = _Guard()

    def dataloader(self, build: Callable[..., DataLoader], cfg, *args, **kwargs) -> DataLoader:
        with _explained(cfg, _explain_dataset):
            loader = build(cfg, *args, **kwargs)
        self.look_at(loader.dataset)
        self._metainfo.update(getattr(loader.dataset, "metainfo", {}))
        return loader

    def look_at(self, dataset) -> None:
        """Check a built data set, and handle its unreadable files."""
        sources = list(_sources(dataset))
        _check_boxes(sources, self._unlabelled)
        for source in sources:
            check_labels(source)
            check_missing(source)
        self.guard.take(dataset)
        nodes = _tree(dataset)
        self._has_stand_ins = any(isinstance(getattr(n, "pipeline", None), StandIns) for n in nodes)

    def evaluator(self, build: Callable[..., Evaluator], cfg) -> Evaluator:
        with _explained(cfg, _explain_metric):
            built = build(cfg)
        for node, metric in zip(cfg if isinstance(cfg, list) else [cfg], built.metrics):
            if type(metric).__name__ == "CocoMetric" and node.get("ann_file"):
                _check_metric(metric, node["ann_file"], self._metainfo)
        if self._has_stand_ins:
            built.metrics[:] = map(WithoutStandIns, built.metrics)
        return built


@contextlib.contextmanager
def _explained(cfg, explain: Callable[[ConfigDict], object]) -> Iterator[None]:
    """If building ``cfg`` fails, let ``explain`` check each part that names an annotation file."""
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
    try:
        dataset.full_init()
    except (ValueError, TypeError, LookupError) as error:
        raise UserError(
            f"{dataset.ann_file} can't be read as the annotations of {type(dataset).__name__}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not len(dataset):
        raise _nothing_left(dataset)


def _explain_metric(cfg: ConfigDict) -> None:
    # Another metric's file may be of another format.
    kind = cfg.get("type")
    if getattr(kind, "__name__", str(kind)).rpartition(".")[2] == "CocoMetric":
        load_coco(cfg.ann_file)


def _nothing_left(dataset: BaseDataset) -> UserError:
    return UserError(
        f"{dataset.ann_file} has nothing to use: it is empty, has no box of the config's classes or no "
        "visible keypoint inside an image, or the config's filter_cfg removes all"
    )


def _check_metric(metric, ann_file: str, metainfo: dict) -> None:
    """Check that the annotations have what pycocotools needs; it would crash only after all predictions."""
    coco = getattr(metric, "_coco_api", None) or getattr(metric, "coco", None)
    of_poses = hasattr(metric, "use_area")
    if of_poses:
        needed = ["bbox", "keypoints", *(["area"] if metric.use_area else [])]
    else:
        needed = ["bbox", "area", "iscrowd", *(["segmentation"] if "segm" in metric.metrics else [])]
    number = metainfo.get("num_keypoints") if of_poses and not metric.gt_converter else None
    for annotation in coco.anns.values() if coco else []:
        which = f"{ann_file}: the annotation with id {annotation['id']}"
        for key in needed:
            value = annotation.get(key)
            if value is None or (key == "segmentation" and not value):
                raise UserError(f"{which} has no {key}, which the evaluation needs")
        if number and len(annotation["keypoints"]) not in (0, 3 * number):
            raise UserError(
                f"{which} has {len(annotation['keypoints'])} numbers as its keypoints, but the evaluation "
                f"needs 3 for each of the {number} keypoints in the data set's metainfo"
            )


def _inner(dataset) -> list:
    """The data sets inside a wrapper."""
    named = (getattr(dataset, name) for name in ("dataset", "_dataset") if hasattr(dataset, name))
    return [*getattr(dataset, "datasets", ()), *named]


def _tree(dataset) -> Iterator:
    """A data set and all data sets inside it."""
    yield dataset
    for inner in _inner(dataset):
        yield from _tree(inner)


def _sources(dataset) -> Iterator[BaseDataset]:
    """The data sets that read annotations, also inside wrappers."""
    return (node for node in _tree(dataset) if isinstance(node, BaseDataset) and not _inner(node))


def _check_boxes(datasets: list[BaseDataset], unlabelled: bool) -> None:
    """Check that a detection set has a box; sets of other tasks pass."""
    boxless = [dataset for dataset in datasets if not _has_box(dataset)]
    for dataset in boxless:
        # Next to a set with boxes there may be one of backgrounds, or of images for semi-supervised learning.
        keeps_empty = (dataset.filter_cfg or {}).get("filter_empty_gt") is False
        adds_images = keeps_empty and len(boxless) < len(datasets)
        if not (unlabelled and dataset.test_mode) and not adds_images:
            check_files(dataset)
            raise _nothing_left(dataset)


def _has_box(dataset: BaseDataset) -> bool:
    infos = (BaseDataset.get_data_info(dataset, index) for index in range(len(dataset)))
    return any(info.get("instances", True) for info in infos)


def check_missing(dataset: BaseDataset) -> None:
    """Check that files exist: all images of a test set, or at least one of a sample of other files.

    Raises:
        UserError: if they don't.
    """
    if not len(dataset):
        return
    # The base class's method, because mmpose's is slow.
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
            f"{missing[0]}{others} that {dataset.ann_file} lists: no such file. "
            f"Put the {many} there, or name their folder in the config's data_prefix"
        )


def _is_missing(path: str) -> bool:
    # A video's name without a suffix means .mp4.
    return "://" not in path and not osp.exists(path) and not osp.exists(f"{path}.mp4")


class _Guard(Hook):
    """Handles unreadable files, also if another hook gives a data set a new pipeline."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self._named = flags_of_files()

    def before_train_epoch(self, runner: Runner) -> None:
        self.take(runner.train_dataloader.dataset)

    def take(self, dataset) -> None:
        """Handle the unreadable files of a data set and of all data sets inside it."""
        for node in _tree(dataset):
            steps = getattr(getattr(node, "pipeline", None), "transforms", [])
            # A data set with its own __getitem__ may not replace None by another sample.
            if type(node).__getitem__ is BaseDataset.__getitem__:
                self._let_skip(node, steps)
            name_unreadable(steps)

    def _let_skip(self, dataset: BaseDataset, steps: list[Callable]) -> None:
        evaluated = dataset.test_mode
        unread = Unread(self._named, "evaluation" if evaluated else "training", limited=not evaluated)
        reading = [step for step in reading_steps(steps) if step[1] == "filename" or not evaluated]
        for place, key, last in reading:
            steps[place] = SkipUnreadable(steps[place], key, unread, last)
        if evaluated and reading:
            dataset.pipeline = StandIns(dataset, "filename")
