"""A generated detection data set in COCO's layout, made in seconds and kept in a cache.

Every image holds one to five flat-coloured shapes, turned at random and partly
covering one another, on a textured background. Neither colour, size nor place
tells the class. Boxes are those of the whole shape and masks those of its
visible part, as run-length codes, so that detectors and instance segmenters
both can use it. A shape is never covered by more than 60 %.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from attn_mm.errors import UserError

CLASSES = ("circle", "ring", "square", "triangle", "star", "cross")

# Part of the cache key: to be raised with every change that alters a file's content.
FORMAT_VERSION = 1

SPLITS = ("train2017", "val2017")
MAX_OBJECTS = 5
# Diameter of a shape's circumscribed circle, in fractions of the image's side: 14 to 48 px of 96.
SIZE_RANGE = (0.15, 0.5)
# Small enough that a short training learns the shapes without learning their rotations first.
MAX_TURN = math.pi / 8
MIN_VISIBLE = 0.4
MIN_IMAGE_SIZE = 64
MAX_TRIES = 10

# Shapes are rasterised on a grid this much finer; a pixel belongs to the mask from half coverage on.
SUPERSAMPLING = 4


def make_shapes(
    root: str | os.PathLike | None = None,
    num_train: int = 800,
    num_val: int = 100,
    image_size: int = 96,
    seed: int = 0,
) -> Path:
    """Return the folder of the data set, generating it on the first call with these parameters.

    The annotations are byte for byte the same on every machine. Image ``i`` of a
    split depends on ``seed`` and ``i`` alone: a longer set extends a shorter one.
    Several processes may call at once; a damaged folder is made anew.

    Args:
        root: cache folder; ``None`` means :func:`cache_root`.
        num_train: images in ``train2017/``.
        num_val: images in ``val2017/``.
        image_size: side of the square images in pixels, at least 64.
        seed: any non-negative integer.

    Returns:
        The folder with ``annotations/instances_{train,val}2017.json``, ``train2017/`` and ``val2017/``.

    Raises:
        ValueError: a parameter is out of range.
        UserError: the cache folder can't be written.
    """
    if min(num_train, num_val) < 1 or image_size < MIN_IMAGE_SIZE or seed < 0:
        raise ValueError(
            f"make_shapes needs num_train >= 1, num_val >= 1, image_size >= {MIN_IMAGE_SIZE} and seed >= 0, "
            f"got {num_train}, {num_val}, {image_size} and {seed}"
        )
    root = cache_root() if root is None else Path(root)
    counts = dict(zip(SPLITS, (num_train, num_val), strict=True))
    folder = root / f"shapes_v{FORMAT_VERSION}_{num_train}_{num_val}_{image_size}px_seed{seed}"
    if _is_complete(folder, counts):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=root) as workspace:
            draft = Path(workspace, "draft")
            for split, (name, count) in enumerate(counts.items()):
                _write_split(draft, name, count, image_size, (seed, split))
            _install(draft, folder, counts)
    except OSError as error:
        raise UserError(
            f"{root}: can't write the generated data set ({error.strerror}); "
            "set ATTN_MM_CACHE to a folder that can be written"
        ) from error
    return folder


def cache_root() -> Path:
    """``$ATTN_MM_CACHE``, else ``attn_mm`` in the user's cache folder."""
    if os.environ.get("ATTN_MM_CACHE"):
        return Path(os.environ["ATTN_MM_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "attn_mm")


def _annotation_file(folder: Path, split: str) -> Path:
    return folder / "annotations" / f"instances_{split}.json"


def _is_complete(folder: Path, counts: dict[str, int]) -> bool:
    return all(
        _annotation_file(folder, name).is_file() and len(list(folder.glob(f"{name}/*.jpg"))) == count
        for name, count in counts.items()
    )


def _install(draft: Path, folder: Path, counts: dict[str, int]) -> None:
    """Rename ``draft`` to ``folder`` at one stroke, unless another process was faster; a damaged one goes."""
    for attempt in itertools.count():
        try:
            draft.rename(folder)
            return
        except OSError:
            if _is_complete(folder, counts):
                return
            if attempt == MAX_TRIES:
                raise
        with contextlib.suppress(FileNotFoundError):
            folder.rename(draft.with_name(f"damaged{attempt}"))


def _write_split(folder: Path, name: str, count: int, size: int, seed: tuple[int, int]) -> None:
    (folder / name).mkdir(parents=True)
    images, annotations = [], []
    for index in range(count):
        # Of a generator's methods only random() is used: its values are the same in every NumPy.
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([*seed, index])))
        picture, objects = draw_scene(rng.random, size)
        file_name = f"{index + 1:012d}.jpg"
        encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        (folder / name / file_name).write_bytes(encoded.tobytes())
        images.append({"id": index + 1, "file_name": file_name, "width": size, "height": size})
        for label, shape, visible in objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": label + 1,
                    "bbox": _box(shape),
                    "area": int(visible.sum()),
                    "segmentation": {"size": [size, size], "counts": _run_lengths(visible)},
                    "iscrowd": 0,
                }
            )
    content = {
        "info": {"description": "attn_mm generated shapes", "version": str(FORMAT_VERSION)},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": n, "supercategory": "shape"} for i, n in enumerate(CLASSES)],
    }
    _annotation_file(folder, name).parent.mkdir(exist_ok=True)
    _annotation_file(folder, name).write_text(json.dumps(content, separators=(",", ":")), encoding="ascii")


def draw_scene(random: Callable, size: int) -> tuple[np.ndarray, list[tuple[int, np.ndarray, np.ndarray]]]:
    """Draw one image.

    Args:
        random: uniform numbers of [0, 1): ``random()`` a float, ``random(shape)`` an array.
        size: side of the image in pixels.

    Returns:
        The image, uint8 (size, size, 3) BGR, and its objects from the hindmost
        to the foremost: class index, boolean mask (size, size) of the whole
        shape, boolean mask of its visible part.
    """
    canvas, colours = _background(random, size)
    objects = []
    for _ in range(1 + int(random() * MAX_OBJECTS)):
        label = int(random() * len(CLASSES))
        diameter = size * (SIZE_RANGE[0] + (SIZE_RANGE[1] - SIZE_RANGE[0]) * random())
        for _ in range(MAX_TRIES):
            coverage = _coverage(random, CLASSES[label], diameter, size)
            shape = 2 * coverage >= 1
            beneath = [(index, whole, visible & ~shape) for index, whole, visible in objects]
            if all(visible.sum() >= MIN_VISIBLE * whole.sum() for _, whole, visible in beneath):
                break
        else:
            continue
        objects = [*beneath, (label, shape, shape)]
        colours.append(_contrasting_colour(random, colours))
        canvas += coverage[..., None] * (colours[-1] - canvas)
    canvas += 24 * (random(canvas.shape) - 0.5)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8), objects


def _background(random: Callable, size: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A canvas (size, size, 3) that blends two colours by one of four textures, and the two colours."""
    angle, period, phase = 2 * math.pi * random(), size * (0.08 + 0.2 * random()), 2 * math.pi * random()
    y, x = np.mgrid[:size, :size]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    texture = int(random() * 4)
    if texture == 0:
        blend = 0.5 + along / (2 * size)
    elif texture == 1:
        blend = 0.5 + 0.5 * np.sin(2 * math.pi * along / period + phase)
    elif texture == 2:
        checks = np.sin(2 * math.pi * along / period + phase) * np.sin(2 * math.pi * across / period)
        blend = (checks > 0).astype(np.float64)
    else:
        grid = 4 + int(random() * 12)
        blend = cv2.resize(random((grid, grid)), (size, size), interpolation=cv2.INTER_CUBIC)
    first = 255 * random(3)
    second = np.clip(first + 120 * (random(3) - 0.5), 0, 255)
    return first + blend[..., None] * (second - first), [first, second]


def _contrasting_colour(random: Callable, used: list[np.ndarray]) -> np.ndarray:
    """The one of eight random colours that is farthest from those in use."""
    candidates = 255 * random((8, 3))
    distances = np.linalg.norm(candidates[:, None] - np.stack(used), axis=2).min(axis=1)
    return candidates[distances.argmax()]


def _coverage(random: Callable, name: str, diameter: float, size: int) -> np.ndarray:
    """How much of each pixel (size, size) a shape covers, 0 to 1; it is turned and placed at random."""
    angle = MAX_TURN * (2 * random() - 1)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    contours = [diameter / 2 * contour @ turn for contour in _contours(name)]
    # A contour's first ring bounds the shape; a second one is a hole in it.
    low, high = contours[0].min(axis=0), contours[0].max(axis=0)
    place = 1 - low + (size - 2 - (high - low)) * np.array([random(), random()])
    fine = _fill([(contour + place) * SUPERSAMPLING for contour in contours], size * SUPERSAMPLING)
    rows = fine.reshape(size, SUPERSAMPLING, -1).sum(axis=1, dtype=np.uint8)
    return rows.reshape(size, size, SUPERSAMPLING).sum(axis=2, dtype=np.uint8) / SUPERSAMPLING**2


def _fill(contours: list[np.ndarray], side: int) -> np.ndarray:
    """The cells (side, side), uint8, whose centres lie inside an odd number of contours.

    Not OpenCV's polygon filling: which pixels that one sets depends on its version.
    """
    crossings = np.zeros((side, side), np.uint8)
    centres = np.arange(side) + 0.5
    for contour in contours:
        (x0, y0), (x1, y1) = contour.T, np.roll(contour, -1, axis=0).T
        edge, row = np.nonzero((y0[:, None] <= centres) != (y1[:, None] <= centres))
        x = x0[edge] + (centres[row] - y0[edge]) / (y1 - y0)[edge] * (x1 - x0)[edge]
        np.add.at(crossings, (row, np.ceil(x - 0.5).astype(np.intp)), 1)
    return np.add.accumulate(crossings, axis=1, dtype=np.uint8) & 1


def _contours(name: str) -> list[np.ndarray]:
    """The outlines, (points, 2) each, of a shape inside the unit circle."""
    if name == "circle":
        return [_arc(1.0)]
    if name == "ring":
        return [_arc(1.0), _arc(0.55)]
    if name == "square":
        return [_arc(1.0, points=4) @ np.array([[1, 1], [-1, 1]]) / math.sqrt(2)]
    upright = np.array([[0, -1], [1, 0]])
    if name == "triangle":
        return [_arc(1.0, points=3) @ upright]
    if name == "star":
        star = _arc(1.0, points=10) @ upright
        star[1::2] *= 0.42
        return [star]
    arm, length = 0.3, math.sqrt(1 - 0.3**2)
    quarter = np.array([[length, -arm], [length, arm], [arm, arm]])
    quarter_turn = np.array([[0, 1], [-1, 0]])
    return [np.concatenate([quarter @ np.linalg.matrix_power(quarter_turn, k) for k in range(4)])]


def _arc(radius: float, points: int = 48) -> np.ndarray:
    angles = np.linspace(0, 2 * math.pi, points, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _box(mask: np.ndarray) -> list[int]:
    """``[x, y, width, height]`` of the pixels that are set."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def _run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed code: lengths of alternating runs, column by column, zeros first."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff([0, *edges, mask.size]).tolist()
