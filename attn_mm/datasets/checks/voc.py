"""Checks of Pascal VOC annotations, one XML file per image; a fault is reported in one line."""

from __future__ import annotations

import difflib
import logging
import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.logging import print_log

from attn_mm.datasets.checks.classes import few, spelled
from attn_mm.datasets.checks.text_lines import read_lines
from attn_mm.datasets.media import read_image
from attn_mm.errors import UserError
from attn_mm.utils.files import check_regular


def check_voc(ann_file: str, annotations: str, images: str, classes: Sequence[str], test_mode: bool) -> None:
    """Check that Pascal VOC annotations can be read, and have objects of the config's classes.

    mmdet ignores objects of other names.

    Args:
        ann_file: text file with one image name per line.
        annotations: folder of the annotations, ``NAME.xml``.
        images: folder of the images, ``NAME.jpg``.
        classes: the config's classes.
        test_mode: whether the set is evaluated on; classes may be missing then.

    Raises:
        UserError: if an annotation is missing or broken.
    """
    names = read_lines(ann_file)
    if not names:
        raise UserError(f"{ann_file} lists no image")
    found: Counter[str] = Counter()
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise UserError(f"{ann_file}, line {number}: the line is empty; remove it")
        path = Path(annotations, f"{name}.xml")
        try:
            check_regular(path)
            root = ET.parse(path).getroot()
            fault = next(_voc_faults(root, Path(images, f"{name}.jpg")), None)
        except OSError as error:
            raise UserError(f"{path}, which {ann_file} lists, can't be read ({error.strerror})") from error
        except (ET.ParseError, ValueError, LookupError) as error:
            raise UserError(f"{path} is not an XML file: {error}") from error
        if fault:
            raise UserError(f"{path}: {fault}")
        found.update(item.findtext("name", "") for item in root.findall("object"))
    _check_voc_names(ann_file, found, classes, test_mode)


def _check_voc_names(ann_file: str, found: Counter[str], classes: Sequence[str], test_mode: bool) -> None:
    others = [name for name in found if name not in classes]
    absent = [name for name in classes if name not in found]
    if not others or not absent or len(absent) == len(classes):
        return
    by_spelling = {spelled(name): name for name in others}
    for name in absent:
        close = difflib.get_close_matches(spelled(name), by_spelling, n=1, cutoff=0.75)
        if close:
            raise UserError(
                f"{ann_file}: no object is named {name!r}, but {found[by_spelling[close[0]]]} are named "
                f"{by_spelling[close[0]]!r}; config: {few(classes)}; objects: {few(sorted(found))}"
            )
    lists = f"{ann_file}: no object is of the classes {few(absent)}, and others are named {few(others)}"
    if not test_mode:
        raise UserError(f"{lists}. Correct metainfo=dict(classes=...); config: {few(classes)}")
    print_log(lists, logger="current", level=logging.WARNING)


def _voc_faults(root: ET.Element, image: Path) -> Iterator[str]:
    if root.find("size") is None:
        try:
            read_image(image)
        except UserError as error:
            yield f"it has no size, and {error}"
    elif not all(_is_text_of(int, root, f"size/{side}") for side in ("width", "height")):
        yield "the width or height in its size is not a whole number"
    for place, item in enumerate(root.findall("object")):
        if item.findtext("name") is None:
            yield f"object {place} has no name"
        if item.find("difficult") is not None and not _is_text_of(int, item, "difficult"):
            yield f"the difficult of object {place} is not a whole number"
        for side in ("xmin", "ymin", "xmax", "ymax"):
            if not _is_text_of(float, item, f"bndbox/{side}"):
                yield f"the bndbox/{side} of object {place} is not a number"


def _is_text_of(kind: type, element: ET.Element, path: str) -> bool:
    """Whether the text at ``path`` is a finite number of type ``kind``."""
    try:
        return math.isfinite(kind(element.findtext(path, "")))
    except ValueError:
        return False
