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

from attn_mm.datasets.checks.boxes import TIMES
from attn_mm.datasets.checks.classes import few, spelled
from attn_mm.datasets.checks.text_lines import read_lines
from attn_mm.datasets.media import read_image
from attn_mm.errors import UserError
from attn_mm.utils.files import check_regular, is_inside

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


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
    empty: list[tuple[Path, int]] = []
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise UserError(f"{ann_file}, line {number}: the line is empty; remove it")
        if not is_inside(name):
            raise UserError(f"{ann_file}, line {number}: {name[:60]!r} is not a name inside {annotations}")
        path = Path(annotations, f"{name}.xml")
        try:
            check_regular(path)
            root = ET.parse(path).getroot()
            fault = next(voc_faults(root, Path(images, f"{name}.jpg")), None)
        except OSError as error:
            raise UserError(f"{path}, which {ann_file} lists, can't be read ({error.strerror})") from error
        except (ET.ParseError, ValueError, LookupError) as error:
            raise UserError(f"{path} is not an XML file: {error}") from error
        if fault:
            raise UserError(f"{path}: {fault}")
        empty += [(path, place) for place, item in enumerate(root.findall("object")) if _is_empty(item)]
        found.update(item.findtext("name", "") for item in root.findall("object"))
    if empty and test_mode:
        path, place = empty[0]
        print_log(
            f"{ann_file}: {len(empty)} of {found.total()} objects have an empty box, such as object {place} "
            f"of {path}; no prediction matches them",
            logger="current",
            level=logging.WARNING,
        )
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


def voc_faults(root: ET.Element, image: Path) -> Iterator[str]:
    """What is wrong with the annotations of an image.

    Args:
        root: of its XML file.
        image: its file, which is read if ``root`` has no size.
    """
    size = root.find("size")
    if root.tag != "annotation" and size is None and root.find("object") is None:
        yield f"it is no VOC annotation: it has <{root.tag[:40]}> and no object"
    if size is None:
        try:
            read_image(image)
        except UserError as error:
            yield f"it has no size, and {error}"
    elif not all(_is_text_of(int, size, side) for side in ("width", "height")):
        yield "the width or height in its size is not a whole number"
    elif min(_sides(size)) < 1:
        yield "the width or height in its size is not positive"
    for place, item in enumerate(root.findall("object")):
        if item.findtext("name") is None:
            yield f"object {place} has no name"
        if item.find("difficult") is not None and not _is_text_of(int, item, "difficult"):
            yield f"the difficult of object {place} is not a whole number"
        box = next(item.iterfind("bndbox"), ET.Element("bndbox"))
        for side in _CORNERS:
            if not _is_text_of(float, box, side):
                yield f"the bndbox/{side} of object {place} is not a number"
        xmin, ymin, xmax, ymax = corners = [float(box.findtext(side, "")) for side in _CORNERS]
        if xmax < xmin or ymax < ymin:
            yield f"the box of object {place} is {corners}: xmax or ymax is less than xmin or ymin"
        if size is not None and max(map(abs, corners)) > TIMES * max(_sides(size)):
            yield f"the box of object {place}, {corners}, is more than {TIMES} times its image: correct it"


def _is_empty(item: ET.Element) -> bool:
    """Whether an object that has no fault has a box without an area."""
    xmin, ymin, xmax, ymax = (int(float(item.findtext(f"bndbox/{side}", ""))) for side in _CORNERS)
    return xmax == xmin or ymax == ymin


def _sides(size: ET.Element) -> list[int]:
    """Width and height."""
    return [int(size.findtext(side, "")) for side in ("width", "height")]


def _is_text_of(kind: type, element: ET.Element, path: str) -> bool:
    """Whether the text at ``path`` is a finite number of type ``kind``."""
    try:
        return math.isfinite(kind(element.findtext(path, "")))
    except ValueError:
        return False
