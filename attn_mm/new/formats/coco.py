"""COCO's format: JSON files of boxes or of keypoints, as CVAT, Label Studio and Roboflow export it, too."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from attn_mm.datasets.checks.annotations import check_coco_boxes, check_coco_persons
from attn_mm.datasets.coco_files import read_coco, read_persons
from attn_mm.errors import UserError
from attn_mm.new.formats.boxed import Part, has_area
from attn_mm.new.images import look_at_images
from attn_mm.new.logs import collected_warnings
from attn_mm.new.report import Report
from attn_mm.new.splits import split_named

# Enough to tell a folder of images.
_SAMPLES = 20


def has_boxes(content: dict) -> bool:
    """Whether a file has boxes."""
    return any(item.get("bbox") for item in content["annotations"])


def has_keypoints(content: dict) -> bool:
    """Whether a file has keypoints."""
    return any(item.get("keypoints") for item in content["annotations"])


def is_coco(data: Path) -> bool:
    """Whether a folder has, or a file is, COCO's annotations."""
    return any(_content(path) for path in _files(data) if _fault(path) is None)


def check_files(data: Path) -> None:
    """Refuse JSON files of a folder, or one file, that can't be read.

    Raises:
        UserError: there is one.
    """
    for path in _files(data):
        if fault := _fault(path):
            raise UserError(fault)


def read(data: Path, report: Report, wanted: Callable[[dict], bool] = has_boxes) -> dict[str, Part]:
    """Read the annotations of a folder, or one file.

    Args:
        data: the folder, or the file.
        report: gets what is wrong.
        wanted: whether a file has what is to be learned.

    Returns:
        The splits that the names of the files say; all images as ``"train"`` if there is one file.

    Raises:
        UserError: there are no such files, or it isn't clear which are meant.
    """
    broken = [path for path in _files(data) if _fault(path)]
    contents = {
        path: content
        for path in _files(data)
        if path not in broken and (content := _content(path)) and wanted(content)
    }
    for path in broken:
        if not contents or _split_of(path, data):
            raise UserError(str(_fault(path)))
    report.complain("JSON files that can't be read", [path.name for path in broken], "unused")
    if not contents:
        what = "boxes" if wanted is has_boxes else "keypoints"
        raise UserError(f"{data} has no JSON file in COCO's format with {what}")
    by_split: dict[str, list[Path]] = {}
    for path in contents:
        by_split.setdefault(_split_of(path, data) or "", []).append(path)
    unnamed = by_split.pop("", [])
    if not by_split:
        by_split = {"train": unnamed}
    else:
        report.complain(
            "files without train, val or test in their names", [p.name for p in unnamed], "unused"
        )
    for split, paths in by_split.items():
        if len(paths) > 1:
            names = ", ".join(str(path.relative_to(root_of(data))) for path in paths[:3])
            raise UserError(f"{data} has several files for {split}, {names}: name one file with --data")
    if "train" not in by_split:
        raise UserError(f"{data} has annotations for {', '.join(by_split)} only, not for training")
    root = root_of(data)
    parts = {}
    for split, (path,) in by_split.items():
        # Which checks the types of everything.
        typed = (read_coco if wanted is has_boxes else read_persons)(str(path))
        folder = _image_folder(root, path, [image.file_name for image in typed.images])
        parts[split] = Part(contents[path], folder, str(path.relative_to(root)))
    if "val" not in parts:
        _check(str(root / by_split["train"][0]), contents[by_split["train"][0]], wanted)
    # Without a validation set the training images are divided, and their file is written anew.
    return {
        split: _looked_at(root, part, report, stays="val" in parts or split != "train")
        for split, part in parts.items()
    }


def _split_of(path: Path, data: Path) -> str | None:
    """The split that a file's name or its folder below ``data`` says."""
    folder = "" if path.parent == data else path.parent.name
    return None if path == data else split_named(path.stem) or split_named(folder)


def _check(path: str, content: dict, wanted: Callable[[dict], bool]) -> None:
    """Check a file that will be divided, by its name: a run would complain about its parts."""
    names = [str(category.get("name")) for category in content.get("categories") or [{}]]
    # What they warn of is found in the parts, too.
    with collected_warnings():
        if wanted is has_boxes:
            check_coco_boxes(path, names, needed=("bbox", "area", "iscrowd"))
        else:
            check_coco_persons(path, None, needed=("bbox", "area", "keypoints"))


def _looked_at(root: Path, part: Part, report: Report, stays: bool) -> Part:
    """Report what is wrong with images and boxes; leave them out if the file can't stay as it is."""
    paths = {image["id"]: root / part.images / image["file_name"] for image in part.content["images"]}
    missing = {path for path in paths.values() if not path.is_file()}
    found = look_at_images([path for path in paths.values() if path not in missing])
    unread = {path for path, size in found.items() if size is None}
    meaning = "training skips them, a test stops" if stays else "left out"
    report.complain(f"images of {part.file} that are missing", sorted(p.name for p in missing), meaning)
    report.complain(f"images of {part.file} that can't be read", sorted(p.name for p in unread), meaning)
    images = [one for one in part.content["images"] if stays or paths[one["id"]] not in missing | unread]
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    annotations = [item for item in part.content["annotations"] if item.get("image_id") in sizes]
    empty = {
        item["id"]
        for item in annotations
        if item.get("bbox") and not has_area(item["bbox"], sizes[item["image_id"]])
    }
    meaning = "training ignores them, a test doesn't" if stays else "left out"
    report.complain(
        f"boxes of {part.file} that are empty or outside their images",
        [f"annotation {one}" for one in empty],
        meaning,
    )
    if stays:
        return part
    kept = [item for item in annotations if item["id"] not in empty]
    return Part({**part.content, "images": images, "annotations": kept}, part.images, part.file)


def root_of(data: Path) -> Path:
    """The folder of a data set that is named by its folder or by its annotation file."""
    if data.is_dir():
        return data
    return data.parent.parent if data.parent.name == "annotations" else data.parent


def _files(data: Path) -> Iterator[Path]:
    if data.is_file():
        yield data
        return
    for pattern in ("*.json", "*/*.json"):
        yield from sorted(data.glob(pattern))


def _content(path: Path) -> dict | None:
    """The content of a file with images and annotations; None for any other file."""
    return _parsed(path, _modified(path))[0]


def _fault(path: Path) -> str | None:
    """Why a file can't be read as JSON."""
    return _parsed(path, _modified(path))[1]


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


# Recognising a format and reading it need the same files, which may be large.
@functools.cache
def _parsed(path: Path, modified: int) -> tuple[dict | None, str | None]:
    """The content of a file with images and annotations, and why it can't be read."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        return None, f"{path} can't be read ({error.strerror})"
    except (ValueError, RecursionError) as error:
        return None, f"{path} is not a JSON file: {error}"
    has_lists = isinstance(content, dict) and all(
        _is_list_of_dicts(content.get(key)) for key in ("images", "annotations")
    )
    return content if has_lists else None, None


def _is_list_of_dicts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _image_folder(root: Path, path: Path, names: list[str]) -> str:
    """The folder below ``root`` that has the images of an annotation file."""
    sample = names[:: max(1, len(names) // _SAMPLES)]
    folders = [
        path.parent,
        root,
        *sorted(p for pattern in ("*/", "*/*/") for p in root.glob(pattern) if p.is_dir()),
    ]
    hits = [sum((folder / name).is_file() for name in sample) for folder in folders]
    if not max(hits):
        raise UserError(f"{path}: none of its images, such as {sample[0]}, is in {root} or its folders")
    folder = folders[hits.index(max(hits))].relative_to(root)
    return "" if folder == Path() else folder.as_posix()
