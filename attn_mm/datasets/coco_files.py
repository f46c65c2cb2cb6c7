"""Read COCO annotation and result files; a fault is one line that names the file, the entry and the fault.

Format: https://cocodataset.org/#format-data and #format-results. The frameworks don't check these files and
crash somewhere inside. msgspec decodes them into the classes below: it is some ten times faster than the
frameworks' own reading, and reports the place of the first value of another type.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlparse

from msgspec import UNSET, DecodeError, Meta, Raw, Struct, UnsetType, ValidationError
from msgspec import json as typed_json

from attn_mm.errors import UserError
from attn_mm.utils.files import check_regular

T = TypeVar("T")

Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
# In pixels; what is larger overflows in the networks.
Pixels = Annotated[float, Meta(ge=-1e9, le=1e9)]
Size = Annotated[float, Meta(ge=1, le=1e9)]
Box = tuple[Pixels, Pixels, Pixels, Pixels]
# In pixels.
Area = Annotated[float, Meta(ge=0)]
Flag = Literal[0, 1] | bool


class Image(Struct, gc=False):
    """An entry of ``images``; sizes are in pixels."""

    id: Int | str
    file_name: str
    width: Size
    height: Size


class Category(Struct):
    """An entry of ``categories``; ``keypoints`` are names."""

    id: Int
    name: str
    keypoints: list[str] | UnsetType = UNSET


class Annotation(Struct, gc=False):
    """An object of an image; ``bbox`` is x, y, width, height in pixels."""

    id: Int
    image_id: Int | str
    category_id: Int
    bbox: Box | UnsetType = UNSET
    area: Area | UnsetType = UNSET
    iscrowd: Flag | UnsetType = UNSET
    # Undecoded: the masks are most of a file.
    segmentation: Raw | UnsetType = UNSET


class Coco(Struct):
    """The annotations of a detection set."""

    images: list[Image]
    annotations: list[Annotation] = []
    categories: list[Category] | UnsetType = UNSET


class LvisImage(Struct, gc=False):
    """An entry of ``images`` of LVIS v1, whose URL ends with the name of the file."""

    id: Int
    coco_url: str
    width: Size
    height: Size


class Lvis(Struct):
    """The annotations of LVIS v1."""

    images: list[LvisImage]
    annotations: list[Annotation] = []
    categories: list[Category] | UnsetType = UNSET


class CocoImages(Struct):
    """The images of a file with annotations of any kind."""

    images: list[Image]


class BoxedCoco(Struct):
    """Annotations with categories."""

    images: list[Image]
    categories: list[Category]
    annotations: list[Annotation] = []


class PersonImage(Struct, gc=False):
    """An entry of ``images`` of a keypoint set; mmpose calculates with the ids."""

    id: Int
    file_name: str
    width: Size
    height: Size


class Person(Struct, gc=False):
    """A person of an image; ``keypoints`` are x, y and visibility of each."""

    id: Int
    image_id: Int
    category_id: Int
    bbox: Box | UnsetType = UNSET
    area: Area | UnsetType = UNSET
    iscrowd: Flag | UnsetType = UNSET
    keypoints: list[Pixels] | UnsetType = UNSET
    num_keypoints: Int | UnsetType = UNSET


class CocoPersons(Struct):
    """The annotations of a keypoint set."""

    images: list[PersonImage]
    annotations: list[Person] = []
    categories: list[Category] | UnsetType = UNSET


class RunLengths(Struct):
    """A mask as run lengths; ``size`` is height, width in pixels."""

    counts: Annotated[str, Meta(min_length=1)] | list[Annotated[int, Meta(ge=0, le=2**31)]]
    size: tuple[int, int]


class Detection(Struct, gc=False):
    """An entry of a result file."""

    image_id: Int | str
    category_id: Int
    bbox: Box
    score: Annotated[float, Meta(ge=-1e9, le=1e9)]


# pycocotools takes memory for each pixel along an edge.
Polygons = list[list[Annotated[float, Meta(ge=-1e5, le=1e5)]]]
_EXPECTED = {"bbox": "[x, y, width, height] in pixels", "segmentation": "a list of polygons, or run lengths"}


def read_coco(path: str) -> Coco:
    """Read the annotations of a detection set; see :func:`read_typed`."""
    return _with_images(path, read_typed(path, Coco, "a COCO annotation file"))


def read_lvis(path: str) -> Coco:
    """Read the annotations of LVIS v1; see :func:`read_typed`."""
    content = _with_images(path, read_typed(path, Lvis, "an annotation file of LVIS v1"))
    names = [urlparse(image.coco_url).path.lstrip("/") for image in content.images]
    images = [Image(one.id, name, one.width, one.height) for one, name in zip(content.images, names)]
    return Coco(images, content.annotations, content.categories)


def read_persons(path: str) -> CocoPersons:
    """Read the annotations of a keypoint set; see :func:`read_typed`."""
    return _with_images(path, read_typed(path, CocoPersons, "a COCO annotation file"))


def read_images(path: str) -> list[Image]:
    """Read the images that a file with annotations of any kind lists; see :func:`read_typed`."""
    return _with_images(path, read_typed(path, CocoImages, "a COCO annotation file")).images


def read_boxed(path: str) -> BoxedCoco:
    """Read annotations with categories, of any names; see :func:`read_typed`."""
    return _with_images(path, read_typed(path, BoxedCoco, "a COCO annotation file"))


def read_detections(path: str) -> list[Detection]:
    """Read COCO results; see :func:`read_typed`."""
    return read_typed(path, list[Detection], "a detection file, a list of boxes")


def _with_images(path: str, content):
    if not content.images:
        raise UserError(f"{path} lists no image")
    return content


def read_typed(path: str, kind: type[T], what: str) -> T:
    """Read a JSON file of known types.

    Args:
        path: the file.
        kind: the type of its content.
        what: what the file should be, for the message.

    Raises:
        UserError: the file can't be read, is no JSON, or has a value of another type.
    """
    try:
        check_regular(path)
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path!r} is no file name: {error}") from error
    try:
        # Of what it skips, msgspec doesn't check the encoding.
        content.isascii() or content.decode()
        return typed_json.decode(content, type=kind)
    except ValidationError as error:
        raise UserError(f"{path}{_fault(str(error), what)}") from error
    except (DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UserError(f"{path}{_why_no_json(content, error)}") from error


def check_mask(path: str, place: int, segmentation: Raw, size: tuple[float, float] | None) -> Box | None:
    """Check that pycocotools can read a mask, and that it is in its image.

    Args:
        path: the annotation file.
        place: index of the annotation.
        segmentation: the mask.
        size: width and height of the image; None if the file lacks it.

    Returns:
        x1, y1, x2, y2 of the smallest box around the mask; None if nothing is in the mask.

    Raises:
        UserError: it can't, or it isn't.
    """
    try:
        mask = typed_json.decode(segmentation, type=Polygons | RunLengths)
    except DecodeError as error:
        fault = str(error).partition(" - at")[0]
        raise UserError(
            f"{path}: annotations[{place}].segmentation is not {_EXPECTED['segmentation']}: {fault}"
        ) from error
    if isinstance(mask, list) and not all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask):
        raise UserError(
            f"{path}: annotations[{place}].segmentation has a polygon without x and y of three or more points"
        )
    wrong = size and (_outside(mask, *size) if isinstance(mask, list) else _of_other_size(mask, *size))
    if wrong:
        raise UserError(f"{path}: annotations[{place}].segmentation {wrong}")
    return _around_polygons(mask) if isinstance(mask, list) else _around_runs(mask)


def _around_polygons(polygons: list[list[float]]) -> Box | None:
    xs = [x for polygon in polygons for x in polygon[::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return (min(xs), min(ys), max(xs), max(ys)) if xs else None


def _around_runs(mask: RunLengths) -> Box | None:
    """The box around run lengths, which go down the columns; every second run is of the object."""
    counts = _decoded(mask.counts) if isinstance(mask.counts, str) else mask.counts
    height, ends = mask.size[0], [*accumulate(counts or ())]
    runs = [(end - length, end - 1) for end, length in zip(ends[1::2], (counts or [])[1::2]) if length]
    if not runs:
        return None
    across = any(first // height < last // height for first, last in runs)
    rows = (0, height) if across else (min(f % height for f, _ in runs), max(e % height for _, e in runs) + 1)
    return runs[0][0] // height, rows[0], runs[-1][1] // height + 1, rows[1]


def _outside(polygons: list[list[float]], width: float, height: float) -> str | None:
    """What is wrong if none of the polygons touches the image."""
    for polygon in polygons:
        xs, ys = polygon[::2], polygon[1::2]
        if min(xs) < width and max(xs) > 0 and min(ys) < height and max(ys) > 0:
            return None
    return f"is outside its image of {width:g} x {height:g} pixels" if polygons else None


def _of_other_size(mask: RunLengths, width: float, height: float) -> str | None:
    """What is wrong if run lengths are not those of the image's pixels."""
    if mask.size != (height, width):
        return f"has the size {list(mask.size)}, but its image has [{height:g}, {width:g}] (height, width)"
    counts = _decoded(mask.counts) if isinstance(mask.counts, str) else mask.counts
    if counts is None or min(counts, default=0) < 0:
        return "has counts that are no compressed run lengths of COCO"
    if sum(counts) != height * width:
        return f"has counts of {sum(counts)} pixels in all, but its image has {height * width:g}"
    return None


def _decoded(text: str) -> list[int] | None:
    """The run lengths in a compressed text; None if it isn't one.

    pycocotools' ``rleFrString`` (common/maskApi.c) doesn't check it, and leaves a mask that is too short
    uninitialised. A character has five bits and says whether more follow; from the fourth run on, the
    difference to the run before the last one is written.
    """
    counts: list[int] = []
    run = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return None
        run |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            run -= 1 << shift
        counts.append(run + counts[-2] if len(counts) > 2 else run)
        run = shift = 0
    return None if shift else counts


def _fault(error: str, what: str) -> str:
    """msgspec's message about a place, in the words of this package."""
    reason, _, place = error.partition(" - at `")
    place = re.sub(r"^\$(\.|(?=\[))", "", place.rstrip("`").replace("[...]", ""))
    key = place.rpartition(".")[2]
    lacking = re.search(r"missing required field `(\w+)`", reason)
    if place in ("$", "") or (lacking and "[" not in place):
        return f" is not {what}" + (f": it has no list of {lacking[1]}" if lacking else f": {_plain(reason)}")
    if place.startswith("["):
        place = f"detections{place}"
    if lacking:
        return f": {place} has no {lacking[1]}"
    key = key.partition("[")[0]
    if key in _EXPECTED:
        place = place[: place.rindex(key) + len(key)]
        return f": {place} is not {_EXPECTED[key]}: {_plain(reason)}"
    return f": {place}: {_plain(reason)}"


def _plain(reason: str) -> str:
    return (reason[:1].lower() + reason[1:]).replace("`", "")


def _why_no_json(content: bytes, error: Exception) -> str:
    if content.startswith(b"\xef\xbb\xbf"):
        return " begins with a byte order mark: save it as UTF-8 without one"
    if isinstance(error, RecursionError):
        return " is nested too deeply for a data set"
    if isinstance(error, UnicodeDecodeError):
        return f" is not a JSON file in UTF-8: byte {error.start} is {content[error.start]:#x}"
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as other:
        return f" is not a JSON file: {other}"
    for place, number in _not_finite(parsed):
        return f": {place} is {number}, not a finite number"
    return f" is not a JSON file: {error}"


def _not_finite(parsed: object) -> Iterator[tuple[str, float]]:
    """The numbers that Python's JSON has and the standard doesn't, with their places."""
    stack: list[tuple[str, object]] = [("", parsed)]
    while stack:
        place, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{place}.{key}".lstrip("."), inner) for key, inner in reversed(value.items())]
        elif isinstance(value, list):
            stack += [(f"{place}[{index}]", inner) for index, inner in reversed([*enumerate(value)])]
        elif isinstance(value, float) and not math.isfinite(value):
            yield place, value
