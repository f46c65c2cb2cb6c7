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
from torch import nn
from torch.utils.data import DataLoader

from attn_mm.datasets.checks.action_labels import check_action_labels
from attn_mm.datasets.checks.annotations import Reader, check_coco_boxes, check_coco_persons
from attn_mm.datasets.checks.classes import (
    check_folders,
    check_heads,
    check_metainfo,
    check_same_classes,
    named,
)
from attn_mm.datasets.checks.image_files import Sizes, check_images
from attn_mm.datasets.checks.label_maps import watch_label_maps
from attn_mm.datasets.checks.labels import (
    check_class_labels,
    check_files,
    check_labels,
    image_sizes,
    keypoint_names,
)
from attn_mm.datasets.checks.skipped_files import StandIns, WithoutStandIns
from attn_mm.datasets.checks.unreadable import (
    KINDS,
    ReadFile,
    SkipUnreadable,
    Unread,
    flags_of_files,
    name_unreadable,
    reading_steps,
)
from attn_mm.errors import UnsafeFile, UserError
from attn_mm.utils.config import type_name, walk

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
        watch.check_before(node)
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
    """Builds the data sets and evaluators of a config and checks them.

    Args:
        cfg: the config.
        model: the network, or None where none is built.
    """

    def __init__(self, cfg: Config, model: nn.Module | None = None) -> None:
        self._nodes = [cfg.get(f"{split}_evaluator") or {} for split in ("val", "test")]
        # A set without labels has no boxes; its results are only written to a file.
        self._unlabelled = any(node.get("format_only") for node in walk(self._nodes))
        self._model = model
        # Of the last data set; a loop builds it before its evaluator.
        self._metainfo: dict = {}
        self._first: BaseDataset | None = None
        self._has_stand_ins = False
        self.guard = _Guard()

    def dataloader(self, build: Callable[..., DataLoader], cfg, *args, **kwargs) -> DataLoader:
        self.check_before(cfg)
        with _explained(cfg, _explain_dataset):
            loader = build(cfg, *args, **kwargs)
        self.look_at(loader.dataset)
        _check_batches(loader)
        self._metainfo.update(getattr(loader.dataset, "metainfo", {}))
        return loader

    def check_before(self, cfg) -> None:
        """Check the annotation files of each data set in ``cfg``, which need not have boxes each."""
        for node in walk(cfg):
            dataset = _unloaded(node)
            if dataset is not None:
                check_files(dataset, boxless=True)

    def look_at(self, dataset) -> None:
        """Check a built data set, and handle its unreadable files."""
        sources = list(_sources(dataset))
        _check_boxes(sources, self._unlabelled)
        for source in sources:
            check_folders(source)
            check_labels(source)
            check_missing(source)
            watch_label_maps(source, self._model)
        self._check_classes(dataset)
        self.guard.take(dataset)
        nodes = _tree(dataset)
        self._has_stand_ins = any(isinstance(getattr(n, "pipeline", None), StandIns) for n in nodes)

    def _check_classes(self, dataset) -> None:
        check_metainfo(dataset)
        if self._model is not None and not any(_converts(node) for node in walk(self._nodes)):
            check_heads(self._model, dataset)
            for source in _sources(dataset):
                check_action_labels(self._model, source)
                check_class_labels(self._model, source)
        if self._first is None:
            self._first = dataset
        check_same_classes(self._first, dataset)

    def evaluator(self, build: Callable[..., Evaluator], cfg) -> Evaluator:
        for node in walk(cfg):
            if type_name(node) == "CocoMetric" and node.get("ann_file") and "://" not in node["ann_file"]:
                self._check_judge(node)
        built = build(cfg)
        if self._has_stand_ins:
            built.metrics[:] = map(WithoutStandIns, built.metrics)
        return built

    def _check_judge(self, node: ConfigDict) -> None:
        """Check that the annotations have what pycocotools needs; it would crash after all predictions."""
        path = node["ann_file"]
        metrics = node.get("metric") or "bbox"
        if "num_keypoints" in self._metainfo:
            needed = ["bbox", "keypoints", *(["area"] if node.get("use_area", True) else [])]
            names = None if _converts(node) else keypoint_names(self._metainfo)
            check_coco_persons(path, names, needed, personless=self._unlabelled)
        elif self._metainfo.get("classes"):
            masks = "segm" in ([metrics] if isinstance(metrics, str) else metrics)
            needed = ["bbox", "area", "iscrowd", *(["segmentation"] if masks else [])]
            reader = Reader(by_id=bool(node.get("sort_categories")))
            check_coco_boxes(path, self._metainfo["classes"], needed, masks, self._unlabelled, reader)


def _check_batches(loader: DataLoader) -> None:
    """Check that an epoch has a batch: nothing would be learned, and the run would end well."""
    try:
        number = len(loader)
    except TypeError:
        # An iterable set has no length.
        return
    if number == 0:
        raise UserError(
            f"an epoch on {named(loader.dataset)} has no batch: it has fewer samples than a batch, "
            "and drop_last=True drops them"
        )


def _converts(node: dict) -> bool:
    """Whether a metric has its own choice of keypoints."""
    return bool(node.get("gt_converter") or node.get("pred_converter"))


def _unloaded(node: dict) -> BaseDataset | None:
    """The data set of a config without its annotations; None if it is of no kind that names a file."""
    if not node.get("ann_file") or "type" not in node:
        return None
    try:
        dataset = DATASETS.build(dict(node, lazy_init=True, serialize_data=False))
        return dataset if isinstance(dataset, BaseDataset) else None
    except UserError:
        raise
    except Exception:
        # The fault of other options is met again when the set is built with its annotations.
        return None


@contextlib.contextmanager
def _explained(cfg, explain: Callable[[ConfigDict], object]) -> Iterator[None]:
    """If building ``cfg`` fails, let ``explain`` check each part that names an annotation file."""
    try:
        yield
    except UnsafeFile as error:
        # mmengine hands a file's content on without its name.
        files = [node["ann_file"] for node in walk(cfg) if node.get("ann_file")]
        raise UserError(f"{', '.join(map(str, files)) or 'a file of the data set'}: {error}") from error
    except UserError:
        raise
    except Exception:
        for node in walk(cfg):
            if node.get("ann_file") or "seg_map_path" in (node.get("data_prefix") or ()):
                explain(node)
        raise


def _explain_dataset(cfg: ConfigDict) -> None:
    dataset = DATASETS.build(dict(cfg, lazy_init=True, serialize_data=False))
    check_files(dataset)
    if hasattr(dataset, "seg_map_suffix") and not dataset.load_data_list():
        raise _nothing_left(dataset)
    try:
        dataset.full_init()
    except (ValueError, TypeError, LookupError) as error:
        raise UserError(
            f"{dataset.ann_file} can't be read as the annotations of {type(dataset).__name__}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not len(dataset):
        raise _nothing_left(dataset)


def _nothing_left(dataset: BaseDataset) -> UserError:
    if hasattr(dataset, "seg_map_suffix") and hasattr(dataset, "img_suffix"):
        folder = dataset.data_prefix.get("img_path")
        listed = f"{dataset.ann_file} names no image" if dataset.ann_file else f"{folder} has no image"
        return UserError(
            f"{listed} of suffix {dataset.img_suffix}: correct img_suffix, ann_file or data_prefix"
        )
    return UserError(
        f"{dataset.ann_file} has nothing to use: it is empty, has no box of the config's classes or no "
        "visible keypoint inside an image, only crowds, or the config's filter_cfg removes all"
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
    return any(_counts(info.get("instances", True)) for info in infos)


def _counts(instances: list[dict] | bool) -> bool:
    """Whether something is learned from the objects of an image: one is no crowd and not difficult."""
    return instances is True or any(not instance.get("ignore_flag") for instance in instances or ())


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
            loading = next(
                (steps[place] for place, key, _ in reading_steps(steps) if key == "img_path"), None
            )
            sizes = image_sizes(node) if loading and isinstance(node, BaseDataset) else {}
            if loading and isinstance(node, BaseDataset) and not _inner(node):
                check_images(node, ReadFile(loading, "img_path", sizes), sizes)
            # A data set with its own __getitem__ may not replace None by another sample.
            if type(node).__getitem__ is BaseDataset.__getitem__:
                self._let_skip(node, steps, sizes)
            name_unreadable(steps, sizes)

    def _let_skip(self, dataset: BaseDataset, steps: list[Callable], sizes: Sizes) -> None:
        evaluated = dataset.test_mode
        unread = Unread(self._named, "evaluation" if evaluated else "training", limited=not evaluated)
        reading = [step for step in reading_steps(steps) if step[1] == "filename" or not evaluated]
        for place, key, last in reading:
            steps[place] = SkipUnreadable(steps[place], key, unread, last, sizes)
        if evaluated and reading:
            dataset.pipeline = StandIns(dataset, "filename")
