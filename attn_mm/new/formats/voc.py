"""Pascal VOC's format: an XML file per image, as LabelImg, CVAT and Label Studio write it, too."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from attn_mm.datasets.checks.text_lines import read_lines
from attn_mm.datasets.checks.voc import voc_faults
from attn_mm.datasets.media import IMAGE_SUFFIXES
from attn_mm.errors import UserError
from attn_mm.new.formats.boxed import Box, Part, Picture, to_coco
from attn_mm.new.images import look_at_images
from attn_mm.new.report import Report
from attn_mm.new.splits import SPLITS, split_named

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_LISTS = "ImageSets/Main"


def is_voc(root: Path) -> bool:
    """Whether a folder has VOC's annotations."""
    return any(root.glob("Annotations/*.xml")) or any(
        _is_annotation(path) for pattern in ("*.xml", "*/*.xml") for path in [*root.glob(pattern)][:1]
    )


def _is_annotation(path: Path) -> bool:
    try:
        return ET.parse(path).getroot().tag == "annotation"
    except (OSError, ET.ParseError, ValueError, LookupError):
        return False


def read(root: Path, report: Report) -> dict[str, Part]:
    """Read a data set.

    Returns:
        The splits that ``ImageSets/Main`` lists or the folders' names say; otherwise all images as
        ``"train"``.

    Raises:
        UserError: it has no annotation, or none that can be used.
    """
    files = {path.stem: path for pattern in ("*.xml", "*/*.xml") for path in sorted(root.glob(pattern))}
    if not files:
        raise UserError(f"{root} has no XML file, here or one folder below: name the folder of Annotations/")
    images = {
        path.stem: path
        for pattern in ("*", "*/*")
        for path in sorted(root.glob(pattern))
        if path.suffix.lower() in IMAGE_SUFFIXES
    }
    report.complain("XML files without an image", sorted(files.keys() - images.keys()), "left out")
    report.complain("images without an XML file", sorted(images.keys() - files.keys()), "left out")
    both = sorted(files.keys() & images.keys())
    sizes = look_at_images([images[stem] for stem in both])
    report.complain("images that can't be read", [p.name for p, s in sizes.items() if s is None], "left out")
    pictures, faults = {}, []
    for stem in both:
        size = sizes[images[stem]]
        picture = size and _picture(root, files[stem], images[stem], size)
        if isinstance(picture, Picture):
            pictures[stem] = picture
        elif picture:
            faults.append(f"{files[stem].name}: {picture}")
    report.complain("XML files that can't be used", faults, "left out")
    if not pictures:
        raise UserError(f"{root} has no image with a usable XML file" + (f"; {faults[0]}" if faults else ""))
    classes = sorted({box.label for picture in pictures.values() for box in picture.boxes})
    parts = _by_split(root, pictures, report)
    return {split: Part(to_coco(part, classes, report)) for split, part in parts.items()}


def _picture(root: Path, path: Path, image: Path, size: tuple[int, int]) -> Picture | str:
    """An image with its boxes, or what is wrong with its XML file."""
    try:
        tree = ET.parse(path).getroot()
        fault = next(voc_faults(tree, image), None)
    except (OSError, ET.ParseError, ValueError, LookupError) as error:
        return f"not an XML file, {error}"
    if fault:
        return fault
    annotated = tuple(int(tree.findtext(f"size/{side}", "0")) for side in ("width", "height"))
    if any(annotated) and annotated != size:
        return "its size is {} x {}, but the image has {} x {}".format(*annotated, *size)
    boxes = []
    for item in tree.findall("object"):
        # VOC counts pixels from 1.
        x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{side}", "")) - 1 for side in _CORNERS)
        boxes.append(Box(item.findtext("name", "").strip(), x1, y1, x2 - x1, y2 - y1))
    return Picture(image.relative_to(root).as_posix(), path.name, *size, tuple(boxes))


def _by_split(root: Path, pictures: dict[str, Picture], report: Report) -> dict[str, list[Picture]]:
    lists = {split: root / _LISTS / f"{split}.txt" for split in SPLITS}
    if not lists["train"].is_file():
        by_folder: dict[str, list[Picture]] = {}
        for picture in pictures.values():
            split = split_named(picture.path.rpartition("/")[0]) or "train"
            by_folder.setdefault(split, []).append(picture)
        return by_folder
    parts = {}
    for split, path in lists.items():
        if path.is_file():
            names = [line.split()[0] for line in read_lines(str(path)) if line.strip()]
            lacking = [name for name in names if name not in pictures]
            report.complain(f"names in {_LISTS}/{path.name} without a usable image", lacking, "left out")
            parts[split] = [pictures[name] for name in names if name in pictures]
    return {split: part for split, part in parts.items() if part}
