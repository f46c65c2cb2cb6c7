"""Images with boxes, whatever format they come in, and COCO's format of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attn_mm.new.report import Report
from attn_mm.new.splits import hold_out


@dataclass(frozen=True)
class Box:
    """An object of an image.

    Attributes:
        label: the name of its class.
        x: of its left side, in pixels, as are the other three numbers.
        y: of its upper side.
        width: of the box.
        height: of the box.
        ignored: whether it is neither learned nor evaluated, as VOC's difficult objects are.
    """

    label: str
    x: float
    y: float
    width: float
    height: float
    ignored: bool = False


@dataclass(frozen=True)
class Picture:
    """An image with its boxes.

    Attributes:
        path: the file, below the data set's folder.
        annotations: the file that has the boxes, for messages.
    """

    path: str
    annotations: str
    width: int
    height: int
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Part:
    """One of a data set's splits.

    Attributes:
        content: its annotations as COCO has them.
        images: the folder of its images, below the data set's folder.
        file: the file of its annotations; None if it has yet to be written.
    """

    content: dict[str, Any]
    images: str = ""
    file: str | None = None


def to_coco(pictures: Sequence[Picture], classes: Sequence[str], report: Report) -> dict[str, Any]:
    """COCO's annotations of pictures, without boxes that have no area inside their image."""
    numbers = {name: number for number, name in enumerate(classes, 1)}
    images: list[dict] = []
    annotations: list[dict] = []
    outside: list[str] = []
    for image_id, picture in enumerate(pictures, 1):
        images.append(dict(id=image_id, file_name=picture.path, width=picture.width, height=picture.height))
        for place, box in enumerate(picture.boxes):
            corner_and_sides = (box.x, box.y, box.width, box.height)
            if not has_area(corner_and_sides, (picture.width, picture.height)):
                outside.append(f"{box.label}, object {place} of {picture.annotations}")
                continue
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=numbers[box.label],
                    bbox=[round(number, 2) for number in corner_and_sides],
                    area=round(box.width * box.height, 2),
                    # The only mark that mmdet's training and COCO's evaluation both know.
                    iscrowd=int(box.ignored),
                )
            )
    report.complain("boxes that are empty or outside their images", outside, "left out")
    categories = [dict(id=number, name=name) for name, number in numbers.items()]
    return dict(images=images, annotations=annotations, categories=categories)


def has_area(box: Sequence[float], image: Sequence[float]) -> bool:
    """Whether a box, x, y, width, height, has an area inside an image of width, height."""
    x, y, width, height = box
    return min(x + width, image[0]) > max(x, 0) and min(y + height, image[1]) > max(y, 0)


def with_validation(parts: dict[str, Part], seed: int, report: Report) -> dict[str, Part]:
    """The splits of a set; if it has no validation, a part of the training images is held out for it."""
    if "val" in parts:
        return parts
    whole = parts["train"]
    train, val = hold_out(whole.content["images"], seed)
    report.found.append(
        f"no validation set: {len(val):,} of {len(train) + len(val):,} images are held out (seed {seed})"
    )
    held = {"train": _of_images(whole, train), "val": _of_images(whole, val)}
    return {**held, **{name: part for name, part in parts.items() if name not in held}}


def _of_images(part: Part, images: Sequence[dict]) -> Part:
    kept = {image["id"] for image in images}
    annotations = [item for item in part.content["annotations"] if item["image_id"] in kept]
    content = {**part.content, "images": [*images], "annotations": annotations}
    return Part(content, part.images)
