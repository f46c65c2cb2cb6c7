"""YOLO's format, read by supervision: a text file per image, as Ultralytics, Roboflow, CVAT and Label Studio
have it."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
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
from attn_mm.utils.files import natural

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
    with tempfile.TemporaryDirectory() as folder:
        if described is None:
            file = _as_description(root, Path(folder))
            splits = {"train": _images_in(_only_folder(root))}
        else:
            file, content = described
            splits = {split: _listed(root, file, content, split) for split in SPLITS if content.get(split)}
            if "train" not in splits:
                raise UserError(f"{file} names no folder of images for train")
        parts = {}
        for split, images in splits.items():
            classes, boxes = _boxes(images, file)
            parts[split] = Part(to_coco(_pictures(root, boxes, report), classes, report))
    return parts


def _as_description(root: Path, folder: Path) -> Path:
    """A YAML file in ``folder`` of the classes that a text file lists."""
    listed = next((root / name for name in _NAMES if (root / name).is_file()), None)
    if listed is None:
        raise UserError(f"{root} has no YAML file with names, and neither {' nor '.join(_NAMES)}")
    names = [line.strip() for line in read_lines(str(listed)) if line.strip()]
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump({"names": names}), encoding="utf-8")
    return file


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
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(found, key=natural)


def _labels_of(folder: Path) -> Path:
    """The folder of the labels of a folder of images: ``labels`` for the last ``images`` in its path."""
    parts = [*folder.parts]
    if "images" in parts:
        place = len(parts) - 1 - parts[::-1].index("images")
        return Path(*parts[:place], "labels", *parts[place + 1 :])
    return folder


def _pictures(root: Path, boxes: Mapping[Path, list[Box] | None], report: Report) -> list[Picture]:
    sizes = look_at_images([*boxes])
    labels = {image: _labels_of(image.parent) / f"{image.stem}.txt" for image in boxes}
    known = [image for image in boxes if sizes[image] is not None and boxes[image] is not None]
    for what, images, consequence in (
        ("images that can't be read", [i for i in boxes if sizes[i] is None], "left out"),
        ("images that supervision doesn't know", [i for i in boxes if boxes[i] is None], "left out"),
        ("images without a label file", [i for i in known if not labels[i].is_file()], "no object in them"),
        ("label files without an image", _orphans(labels.values()), "left out"),
    ):
        report.complain(what, [image.name for image in images], consequence)
    root = root.resolve()
    return [
        Picture(
            image.resolve().relative_to(root).as_posix(),
            labels[image].name,
            *(sizes[image] or (0, 0)),
            tuple(boxes[image] or ()),
        )
        for image in known
    ]


def _orphans(labels: Collection[Path]) -> list[Path]:
    folders = {path.parent for path in labels}
    found = {path for folder in folders for path in folder.glob("*.txt") if path.name not in _NOT_LABELS}
    return sorted(found - {*labels})


def _boxes(images: Sequence[Path], description: Path) -> tuple[list[str], dict[Path, list[Box] | None]]:
    """The classes, and each image's boxes as supervision reads them; None for images that it doesn't know."""
    supervision = require("supervision", "data")
    classes: list[str] = []
    boxes: dict[Path, list[Box] | None] = {}
    for folder in sorted({image.parent for image in images}):
        try:
            read = supervision.DetectionDataset.from_yolo
            loaded = read(str(folder), str(_labels_of(folder)), str(description))
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from error
        classes = loaded.classes
        for image in (image for image in images if image.parent == folder):
            found = loaded.annotations.get(str(image))
            boxes[image] = (
                None
                if found is None
                else [
                    Box(classes[label], x1, y1, x2 - x1, y2 - y1)
                    for (x1, y1, x2, y2), label in zip(found.xyxy.tolist(), found.class_id)
                ]
            )
    return classes, boxes
