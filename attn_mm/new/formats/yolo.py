"""YOLO's format, read by supervision: a text file per image, as Ultralytics, Roboflow, CVAT and Label Studio
have it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from attn_mm.datasets.checks.text_lines import read_lines
from attn_mm.datasets.media import IMAGE_SUFFIXES
from attn_mm.errors import UserError
from attn_mm.new.formats.boxed import Box, Part, Picture, to_coco
from attn_mm.new.images import look_at_images
from attn_mm.new.report import Report
from attn_mm.new.splits import SPLITS
from attn_mm.utils.extras import require

# Files with a class per line, where there is no YAML file.
_NAMES = ("classes.txt", "obj.names")
# Other text files beside the labels.
_NOT_LABELS = (*_NAMES, "train.txt")


def is_yolo(root: Path) -> bool:
    """Whether a folder has a list of classes as YOLO's sets have it."""
    return any((root / name).is_file() for name in _NAMES) or _description(root) is not None


def read(root: Path, report: Report) -> dict[str, Part]:
    """Read a data set.

    Returns:
        The splits that its YAML file names; all images as ``"train"`` if it has none.

    Raises:
        UserError: there is no list of classes, a folder or list is missing, or a label can't be read.
    """
    described = _description(root)
    if described is None:
        path = next((root / name for name in _NAMES if (root / name).is_file()), None)
        if path is None:
            raise UserError(f"{root} has no YAML file with names, and neither {' nor '.join(_NAMES)}")
        names = [line.strip() for line in read_lines(str(path)) if line.strip()]
        splits: dict[str, list[Path]] = {"train": _images_in(_only_folder(root))}
    else:
        path, content = described
        named = content["names"]
        names = [str(name) for name in (named.values() if isinstance(named, dict) else named)]
        splits = {split: _listed(root, path, content, split) for split in SPLITS if content.get(split)}
        if "train" not in splits:
            raise UserError(f"{path} names no folder of images for train")
    pictures = {split: _pictures(root, images, names, report) for split, images in splits.items()}
    return {split: Part(to_coco(part, names, report)) for split, part in pictures.items()}


def _description(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """The YAML file that lists the classes, and its content."""
    found = []
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(content, dict) and isinstance(content.get("names"), (list, dict)):
            found.append((path, content))
    if len(found) > 1:
        raise UserError(f"{root} has several YAML files with names: {', '.join(p.name for p, _ in found)}")
    return found[0] if found else None


def _listed(root: Path, file: Path, content: dict[str, Any], split: str) -> list[Path]:
    """The images of a split, which a YAML file names by folders or by text files of paths."""
    images: list[Path] = []
    values = content[split]
    for value in map(str, values if isinstance(values, list) else [values]):
        path = _found(root, content.get("path"), value)
        if path is None:
            raise UserError(f"{file}: {split}: {value} is missing in {root}")
        if path.is_dir():
            images += _images_in(path)
        else:
            lines = [line.strip() for line in read_lines(str(path)) if line.strip()]
            found = [_found(root, content.get("path"), line) for line in lines]
            images += [image for image in found if image is not None]
            if None in found:
                raise UserError(f"{path}: {lines[found.index(None)]} is missing in {root}")
    if not images:
        raise UserError(f"{file}: {split}: {values} has no image")
    return images


def _found(root: Path, base: object, value: str) -> Path | None:
    """A path of a YAML file; exporters write it relative to several folders."""
    inner = Path(*[part for part in Path(value).parts if part not in ("..", ".", "data", "/")] or ["."])
    bases = [root / str(base) if base else root, root]
    tried = [*(one / value for one in bases), root / inner]
    return next(
        (path for path in tried if path.exists() and path.resolve().is_relative_to(root.resolve())), None
    )


def _only_folder(root: Path) -> Path:
    return next((root / name for name in ("images", "obj_train_data") if (root / name).is_dir()), root)


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def _labels_of(folder: Path) -> Path:
    """The folder of the labels of a folder of images: ``labels`` for the last ``images`` in its path."""
    parts = [*folder.parts]
    if "images" in parts:
        place = len(parts) - 1 - parts[::-1].index("images")
        return Path(*parts[:place], "labels", *parts[place + 1 :])
    return folder


def _pictures(root: Path, images: Sequence[Path], names: Sequence[str], report: Report) -> list[Picture]:
    sizes = look_at_images(images)
    report.complain("images that can't be read", [p.name for p, s in sizes.items() if s is None], "left out")
    pictures = []
    unlabelled, unknown = [], []
    for image, boxes in _boxes(images, names):
        size = sizes[image]
        if size is None:
            continue
        if boxes is None:
            unknown.append(image.name)
            continue
        labels = _labels_of(image.parent) / f"{image.stem}.txt"
        if not labels.is_file():
            unlabelled.append(image.name)
        path = image.resolve().relative_to(root.resolve()).as_posix()
        pictures.append(Picture(path, labels.name, *size, tuple(boxes)))
    report.complain("images of a kind that supervision doesn't read", unknown, "left out")
    report.complain("images without a label file", unlabelled, "taken as images of nothing")
    stems = {image.stem for image in images}
    orphans = [
        path.name
        for folder in {_labels_of(image.parent) for image in images}
        for path in folder.glob("*.txt")
        if path.stem not in stems and path.name not in _NOT_LABELS
    ]
    report.complain("label files without an image", sorted(orphans), "left out")
    return pictures


def _boxes(images: Sequence[Path], names: Sequence[str]) -> Iterator[tuple[Path, list[Box] | None]]:
    """Each image with its boxes, as supervision reads them; None for a kind of image that it doesn't know."""
    supervision = require("supervision", "data")
    with tempfile.TemporaryDirectory() as folder:
        description = Path(folder, "data.yaml")
        description.write_text(yaml.safe_dump({"names": [*names]}), encoding="utf-8")
        for parent in sorted({image.parent for image in images}):
            try:
                loaded = supervision.DetectionDataset.from_yolo(
                    str(parent), str(_labels_of(parent)), str(description)
                )
            except (ValueError, OSError) as error:
                raise UserError(f"{error}") from error
            for image in (image for image in images if image.parent == parent):
                found = loaded.annotations.get(str(image))
                yield image, None if found is None else [*_as_boxes(found, names, image)]


def _as_boxes(found: Any, names: Sequence[str], image: Path) -> Iterator[Box]:
    for (x1, y1, x2, y2), label in zip(found.xyxy.tolist(), found.class_id):
        if not 0 <= label < len(names):
            raise UserError(
                f"the labels of {image} name class {label}, but the set's names are 0 to {len(names) - 1}"
            )
        yield Box(names[label], x1, y1, x2 - x1, y2 - y1)
