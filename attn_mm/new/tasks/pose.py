"""A top-down pose estimator: SimpleBaseline on keypoints in COCO's format."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attn_mm.datasets.generated.jointed_figure import KEYPOINTS
from attn_mm.errors import UserError
from attn_mm.new.formats import coco
from attn_mm.new.formats.boxed import Part, with_validation
from attn_mm.new.literals import OWN, source
from attn_mm.new.network import resnet, widths_of, with_attention
from attn_mm.new.plan import Plan, Wishes, annotations_folder
from attn_mm.new.report import Report, counts_in_words
from attn_mm.new.schedule import batch_size_for, check_number, epochs_for, last_is_alone, schedule_text
from attn_mm.new.tasks.coco_parts import annotation_files, describe_parts, loaders_text

PACKAGE = ("mmpose", "pose")
_BATCH_SIZE = 32
# Height of the network's input, which is three quarters as wide. The last stage's stride is 32.
_HEIGHT, _STRIDE = 256, 32
# Of keypoints with other names than COCO's: that of COCO's elbows and wrists is 0.06 to 0.07.
_SIGMA = 0.05
# pycocotools' own, which only the extras of detection and pose install.
_HEAD, _SHOULDERS_TO_WRISTS = (0.026, 0.025, 0.025, 0.035, 0.035), (0.079, 0.079, 0.072, 0.072, 0.062, 0.062)
_HIPS_TO_ANKLES = (0.107, 0.107, 0.087, 0.087, 0.089, 0.089)
_SIGMAS = (*_HEAD, *_SHOULDERS_TO_WRISTS, *_HIPS_TO_ANKLES)


def plan(name: str, wishes: Wishes) -> Plan:
    """Look at a data set and plan its config.

    Args:
        name: of the config.
        wishes: the command line.

    Raises:
        UserError: the data set can't be used.
    """
    report = Report()
    root = coco.root_of(wishes.data)
    files = coco.read(wishes.data, report, coco.has_keypoints)
    category = _category(root / str(files["train"].file), files["train"].content)
    names = category["keypoints"]
    parts = with_validation(files, wishes.seed, report)
    describe_parts(parts, report, "annotated objects")
    report.found.insert(0, f"{wishes.data}: {len(names)} keypoints of {category['name']}")
    visible = _visible(parts, names)
    report.found.append(f"keypoints: {counts_in_words(visible, most=20)}")
    report.complain(
        "keypoints that are never visible", [n for n in names if not visible[n]], "nothing can learn them"
    )
    mirrored = mirror_names(names)
    pairs = [f"{one} - {other}" for one, other in mirrored.items() if other and one < other]
    report.found.append(f"left and right by their names: {', '.join(pairs) or 'none'}")
    height = wishes.size or _HEIGHT
    if height % _STRIDE:
        raise UserError(f"--size {height}: the height of a pose input is a multiple of {_STRIDE}")
    width = max(_STRIDE, round(height * 0.75 / _STRIDE) * _STRIDE)
    number = sum(map(_is_used, parts["train"].content["annotations"]))
    check_number(number, wishes.data, "objects with a visible keypoint")
    return Plan(
        f"SimpleBaseline with {wishes.network()}, inputs of {width} x {height} pixels",
        _config(name, wishes, root, parts, category, mirrored, (width, height), number),
        report,
        annotation_files(parts),
    )


def _category(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The category that has keypoints, and whose names and links can be used."""
    used = {item["category_id"] for item in content["annotations"] if item.get("keypoints")}
    found = [item for item in content.get("categories", []) if item.get("id") in used]
    if len(found) != 1:
        names = ", ".join(str(item.get("name")) for item in found) or "none of its categories"
        raise UserError(f"{file} has keypoints of {names}: one category is needed, list its names")
    names = found[0].get("keypoints")
    if not names:
        raise UserError(
            f"{file}: category {found[0].get('name')} does not name its keypoints: add keypoints=[...]"
        )
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{file}: two keypoints are named {twice!r}: name each differently")
    links = found[0].get("skeleton") or []
    if not isinstance(links, list):
        raise UserError(f"{file}: the skeleton is {str(links)[:40]!r}, not a list of pairs of keypoints")
    for place, link in enumerate(links):
        if not _is_link(link, len(names)):
            raise UserError(
                f"{file}: skeleton[{place}] is {str(link)[:40]}, not two of the keypoints' numbers "
                f"from 1 to {len(names)}"
            )
    return found[0]


def _is_link(link: object, keypoints: int) -> bool:
    if not isinstance(link, list) or len(link) != 2:
        return False
    return all(type(end) is int and 1 <= end <= keypoints for end in link)


def _is_used(item: dict[str, Any]) -> bool:
    """Whether mmpose trains on an object."""
    return not item.get("iscrowd") and max(item.get("keypoints") or [0]) > 0


def _visible(parts: dict[str, Part], names: Sequence[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for part in parts.values():
        for item in part.content["annotations"]:
            flags = (item.get("keypoints") or [])[2::3]
            counts.update(name for name, flag in zip(names, flags) if flag)
    return counts


def mirror_names(names: Sequence[str]) -> dict[str, str]:
    """For each keypoint the one on the other side, by names such as left_eye and eye-r; empty if none."""
    sides = {"left": "right", "l": "r"}
    other = {**sides, **{right: left for left, right in sides.items()}}
    found = dict.fromkeys(names, "")
    for name in names:
        for match in re.finditer(r"left|right|^[lr]|(?<=[_\-. ])[lr]$", name, re.IGNORECASE):
            word = other[match[0].lower()]
            word = word.upper() if match[0].isupper() else word.title() if match[0].istitle() else word
            candidate = name[: match.start()] + word + name[match.end() :]
            if candidate in found:
                found[name] = candidate
    return found


def _config(
    name: str,
    wishes: Wishes,
    root: Path,
    parts: dict[str, Part],
    category: dict[str, Any],
    mirrored: dict[str, str],
    size: tuple[int, int],
    number: int,
) -> str:
    batch_size = batch_size_for(number, _BATCH_SIZE)
    epochs = wishes.epochs or epochs_for(number, batch_size)
    batch = f"batch_size={batch_size}, drop_last={last_is_alone(number, batch_size)}"
    names = [*mirrored]
    of_coco = dict(zip(KEYPOINTS, _SIGMAS, strict=True))
    sigmas = [of_coco.get(keypoint, _SIGMA) for keypoint in names]
    links = [(names[one - 1], names[other - 1]) for one, other in category.get("skeleton") or []]
    backbone = with_attention(resnet(wishes.backbone), wishes.attention)
    maps = tuple(side // 4 for side in size)
    return f'''\
_base_ = "attn_mm::tdaf/simplebaseline-r50_plain_210e_coco.py"

root = {source(f"{root}/")}
annotations = "{OWN}/{annotations_folder(name)}/"

# Each keypoint, and the one that it becomes in a mirror.
keypoints = {source(mirrored)}
links = {source(links)}
metainfo = dict(
    dataset_name={source(name)},
    keypoint_info={{
        number: dict(id=number, name=name, swap=other, type="", color=[255, 128, 0])
        for number, (name, other) in enumerate(keypoints.items())
    }},
    skeleton_info={{
        number: dict(id=number, link=link, color=[0, 128, 255]) for number, link in enumerate(links)
    }},
    joint_weights=[1.0] * {len(names)},
    # How far off a keypoint may be, in shares of an object's size; AP depends on them.
    sigmas={source(sigmas)},
)

codec = dict(type="MSRAHeatmap", input_size={size}, heatmap_size={maps}, sigma={2 * size[1] / _HEIGHT:g})
model = dict(
    backbone=dict(_delete_=True, {backbone}),
    head=dict(in_channels={widths_of(wishes.backbone)[-1]}, out_channels={len(names)}, decoder=codec),
)

load, box = dict(type="LoadImage"), dict(type="GetBBoxCenterScale")
crop = dict(type="TopdownAffine", input_size=codec["input_size"])
train_pipeline = [
    load,
    box,
    dict(type="RandomFlip", direction="horizontal"),
    dict(type="RandomBBoxTransform"),
    crop,
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs"),
]
test_pipeline = [load, box, crop, dict(type="PackPoseInputs")]

data = dict(data_root=root, metainfo=metainfo)
# Annotated boxes, also in tests.
{loaders_text(parts, batch, loader=", bbox_file=None")}

{schedule_text(epochs, number, batch_size, "coco/AP")}'''
