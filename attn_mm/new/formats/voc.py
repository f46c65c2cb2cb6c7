"""Pascal VOC's format: an XML file per image, as LabelImg, CVAT and Label Studio write it, too."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
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
    files = sorted(path for pattern in ("*.xml", "*/*.xml") for path in root.glob(pattern))
    if not files:
        raise UserError(f"{root} has no XML file, here or one folder below: name the folder of Annotations/")
    images = _images_of(root, files, report)
    sizes = look_at_images([*images.values()])
    report.complain("images that can't be read", [p.name for p, s in sizes.items() if s is None], "left out")
    pictures, faults = {}, []
    for path, image in images.items():
        size = sizes[image]
        picture = size and _picture(root, path, image, size)
        if isinstance(picture, Picture):
            pictures[path] = picture
        elif picture:
            faults.append(f"{path.name}: {picture}")
    report.complain("XML files that can't be used", faults, "left out")
    if not pictures:
        raise UserError(f"{root} has no image with a usable XML file" + (f"; {faults[0]}" if faults else ""))
    classes = sorted({box.label for picture in pictures.values() for box in picture.boxes})
    parts = _by_split(root, pictures, report)
    if "train" not in parts:
        others = f", only for {' and '.join(parts)}" if parts else ""
        raise UserError(f"{root} has no usable annotations for training{others}")
    marked = [f"{box.label} of {p.annotations}" for p in pictures.values() for box in p.boxes if box.ignored]
    report.complain("boxes marked as difficult", marked, "neither learned nor evaluated")
    return {split: Part(to_coco(part, classes, report)) for split, part in parts.items()}


def _images_of(root: Path, files: Sequence[Path], report: Report) -> dict[Path, Path]:
    """The image of each XML file, which has the same name and isn't in the folder of another split."""
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(path for pattern in ("*", "*/*") for path in root.glob(pattern)):
        # SegmentationClass/ and SegmentationObject/ have label maps of the images' names.
        label_map = path.parent != root and path.parent.name.lower().startswith("segmentation")
        if path.suffix.lower() in IMAGE_SUFFIXES and not label_map:
            by_stem.setdefault(path.stem, []).append(path)
    found = {path: _best(path, by_stem.get(path.stem, []), root) for path in files}
    claims = Counter(image for images in found.values() for image in images if len(images) == 1)
    alone = [path for path, images in found.items() if not images]
    several = [path for path, images in found.items() if images and (images[1:] or claims[images[0]] > 1)]
    used = {image for images in found.values() for image in images}
    without = [image for images in by_stem.values() for image in images if image not in used]
    for what, paths in (
        ("XML files without an image", alone),
        ("XML files of which it is unclear which image they are of", several),
        ("images without an XML file", without),
    ):
        report.complain(what, [path.relative_to(root) for path in paths], "left out")
    return {path: images[0] for path, images in found.items() if path not in {*alone, *several}}


def _best(path: Path, images: Sequence[Path], root: Path) -> list[Path]:
    """Of images with the name of an XML file, those that it is most likely of."""
    split = _split_of(path, root)
    found = [i for i in images if None in (split, _split_of(i, root)) or split == _split_of(i, root)]
    if len(found) < 2:
        return found
    named = re.split(r"[\\/]", _filename(path))[-1]
    for preferred in (
        [image for image in found if image.name == named],
        [image for image in found if split and split == _split_of(image, root)],
        [image for image in found if image.parent.name == "JPEGImages"],
        [image for image in found if image.parent == path.parent],
    ):
        found = [image for image in preferred if image in found] or found
    return found


def _filename(path: Path) -> str:
    try:
        return ET.parse(path).getroot().findtext("filename", "").strip()
    except (OSError, ET.ParseError, ValueError, LookupError):
        return ""


def _split_of(path: Path, root: Path) -> str | None:
    """The split that the folder of a file says."""
    return None if path.parent == root else split_named(path.parent.name)


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
        difficult = int(item.findtext("difficult", "0")) != 0
        boxes.append(Box(item.findtext("name", "").strip(), x1, y1, x2 - x1, y2 - y1, difficult))
    return Picture(image.relative_to(root).as_posix(), path.name, *size, tuple(boxes))


def _by_split(root: Path, pictures: dict[Path, Picture], report: Report) -> dict[str, list[Picture]]:
    lists = {split: root / _LISTS / f"{split}.txt" for split in SPLITS}
    if not lists["train"].is_file():
        by_folder: dict[str, list[Picture]] = {}
        for path, picture in pictures.items():
            split = _split_of(root / picture.path, root) or _split_of(path, root) or "train"
            by_folder.setdefault(split, []).append(picture)
        return by_folder
    by_name: dict[str, list[Picture]] = {}
    for path, picture in pictures.items():
        by_name.setdefault(path.stem, []).append(picture)
    parts = {}
    for split, path in lists.items():
        if path.is_file():
            names = [line.split()[0] for line in read_lines(str(path)) if line.strip()]
            lacking = [name for name in names if len(by_name.get(name, [])) != 1]
            report.complain(
                f"names in {_LISTS}/{path.name} without exactly one usable image", lacking, "left out"
            )
            parts[split] = [by_name[name][0] for name in names if name not in lacking]
    return {split: part for split, part in parts.items() if part}
