"""Check that the classes or keypoints of data sets, networks and checkpoints are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mmengine.dataset import BaseDataset
from torch import nn

from attn_mm.errors import UserError

# Heads whose num_classes is the number of a set's classes; others count the background or nothing.
_COUNTING_HEAD = re.compile(
    r"(^|\.)(bbox_head|mask_head|panoptic_head|query_head|decode_head|auxiliary_head)(\.\d+)?$"
)
# mmsegmentation's heads of borders and of depth.
_OTHER_HEADS = ("STDCHead", "VPDDepthHead")
# What mmpose's heads call their number of keypoints.
_KEYPOINTS = ("num_keypoints", "num_joints", "out_channels")


def check_names(names: object, where: str, what: str = "classes") -> None:
    """Check that the names of classes are a list of different texts.

    Raises:
        UserError: they aren't.
    """
    if isinstance(names, str):
        raise UserError(f"{where}: {what}={names!r} is a text, not a list: write ({names!r},)")
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}: {what} must be a list of texts, got {names!r:.80}")
    if not names:
        raise UserError(f"{where}: {what} is empty")
    repeated = [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []
    if repeated:
        raise UserError(f"{where}: {what} has {repeated[0]!r} more than once")


def check_metainfo(dataset) -> None:
    """Check the metainfo of a built data set.

    Raises:
        UserError: its classes are neither the set's own nor a list of different texts, or there are not as
            many sigmas or weights as keypoints.
    """
    meta = _meta(dataset)
    own = getattr(type(dataset), "METAINFO", {}).get("classes")
    # ImageNet has two classes of one name, "crane".
    if meta.get("classes") is not None and meta["classes"] != own:
        check_names(meta["classes"], f"metainfo of {named(dataset)}")
    number = meta.get("num_keypoints")
    for key in ("sigmas", "dataset_keypoint_weights"):
        if number and meta.get(key) is not None and len(meta[key]) not in (0, number):
            written = "joint_weights" if key == "dataset_keypoint_weights" else key
            raise UserError(
                f"metainfo of {named(dataset)}: {len(meta[key])} {written} for {number} keypoints"
            )


def check_folders(dataset: BaseDataset) -> None:
    """Check a classification set whose classes are folders, which mmpretrain numbers alphabetically.

    It takes the config's classes for their names without comparing them (mmpretrain/datasets/custom.py,
    ``_find_samples``). Folders may have other names, such as ImageNet's identifiers.

    Raises:
        UserError: a folder has the name of a class with another number.
    """
    folders = getattr(dataset, "folder_to_idx", None) or {}
    classes = list(_meta(dataset).get("classes") or ())
    for name, number in folders.items():
        if name in classes and classes.index(name) != number:
            raise UserError(
                f"{named(dataset)} numbers its folders alphabetically, {few(sorted(folders))}, but the "
                f"config's classes are {few(classes)}: write them in the order of the folders"
            )


def check_heads(model: nn.Module, dataset) -> None:
    """Check that a network predicts as many classes or keypoints as a data set has.

    Raises:
        UserError: it doesn't.
    """
    meta = _meta(dataset)
    if meta.get("num_keypoints"):
        _check_keypoints(model, dataset, meta["num_keypoints"])
    elif meta.get("classes") and not _by_text(dataset):
        for name, number in _head_classes(model):
            things = len(meta.get("thing_classes") or meta["classes"])
            if number not in (things, len(meta["classes"])):
                raise UserError(
                    f"model.{name}.num_classes is {number}, but {named(dataset)} has {len(meta['classes'])} "
                    f"classes ({few(meta['classes'])}): make them the same"
                )


def _head_classes(model: nn.Module) -> Iterator[tuple[str, int]]:
    """The number of classes of each head, by name; none for networks that take the classes as text."""
    names = [*model.named_modules()]
    if any(name.endswith("language_model") for name, _ in names):
        return
    for name, module in names:
        name = name.removeprefix("module.")
        number = getattr(module, "num_classes", None)
        if type(module).__name__ in _OTHER_HEADS:
            continue
        if isinstance(number, int) and (_COUNTING_HEAD.search(name) or name == "head"):
            yield name, number


def _by_text(dataset) -> bool:
    return bool(getattr(dataset, "return_classes", False))


def _check_keypoints(model: nn.Module, dataset, expected: int) -> None:
    head = getattr(getattr(model, "module", model), "head", None)
    head = getattr(head, "pose_head", head)
    name = next((name for name in _KEYPOINTS if isinstance(getattr(head, name, None), int)), None)
    if name is None or _converts_keypoints(dataset):
        return
    number = getattr(head, name)
    # UDP's combined target has a heatmap and two offsets for each keypoint.
    combined = getattr(getattr(head, "decoder", None), "heatmap_type", None) == "combined"
    if number != (3 * expected if combined else expected):
        raise UserError(
            f"model.head.{name} is {number}, but {named(dataset)} has {expected} keypoints: make "
            "them the same"
        )


def _converts_keypoints(dataset) -> bool:
    steps = getattr(getattr(dataset, "pipeline", None), "transforms", ())
    return any(type(step).__name__ == "KeypointConverter" for step in steps)


def check_same_classes(first, other) -> None:
    """Check that two data sets of a config, of training and validation, have the same classes in one order.

    Raises:
        UserError: they haven't.
    """
    one, two = (list(_meta(dataset).get("classes") or ()) for dataset in (first, other))
    if one and two and one != two and not (_by_text(first) or _by_text(other)):
        place = next(
            (i for i, pair in enumerate(zip(one, two)) if pair[0] != pair[1]), min(len(one), len(two))
        )
        raise UserError(
            f"the classes of {named(first)} and {named(other)} differ from number {place} on: "
            f"{few(one[place:])}; {few(two[place:])} ({len(one)} and {len(two)} classes)"
        )


def _meta(dataset) -> dict:
    return getattr(dataset, "metainfo", None) or {}


def named(dataset) -> str:
    """A data set in words, by its file or folder."""
    inner = dataset
    while not isinstance(inner, BaseDataset) or hasattr(inner, "datasets"):
        if getattr(inner, "datasets", None):
            inner = inner.datasets[0]
        elif hasattr(inner, "dataset"):
            inner = inner.dataset
        else:
            break
    prefix = getattr(inner, "data_prefix", None) or {}
    folders = [*prefix.values()] if isinstance(prefix, dict) else [prefix]
    return str(getattr(inner, "ann_file", None) or next(iter(folders), None) or type(dataset).__name__)


def few(names: Sequence[str]) -> str:
    """The first of many names, for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "none"


def spelled(name: str) -> str:
    """The letters and digits of a name in lower case."""
    return "".join(filter(str.isalnum, name.casefold()))
