"""Generated data sets, made in seconds, kept in a cache, the same on every machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from attn_mm.errors import UserError

SPLITS = ("train2017", "val2017")
MIN_IMAGE_SIZE = 32
MAX_RENAMES = 10


@dataclass(frozen=True)
class GeneratedSet:
    """What there is to know about a data set besides how much of it is wanted.

    Attributes:
        name: the beginning of the folder's name.
        version: part of the cache key, to be raised with every change that alters a file's content.
        task: the beginning of the annotation files' names.
        categories: COCO's list.
        draw: from a source of uniform numbers of [0, 1) and a size, makes a picture, uint8
            (size, size, 3) BGR, and COCO's annotations of it, without ids. The source is called as
            ``random()`` or ``random(shape)``; what a generator's other methods give depends on NumPy.
    """

    name: str
    version: int
    task: str
    categories: list[dict]
    draw: Callable[[Callable, int], tuple[np.ndarray, list[dict]]]

    def make(
        self, root: str | os.PathLike | None, num_train: int, num_val: int, image_size: int, seed: int
    ) -> Path:
        """Return the folder of the data set, drawing it on the first call with these parameters.

        The annotations are byte for byte the same on every machine. Image ``i`` of a
        split depends on ``seed`` and ``i`` alone: a longer set extends a shorter one.
        Several processes may call at once; a damaged folder is made anew.

        Args:
            root: cache folder; ``None`` means :func:`cache_root`.
            num_train: images in ``train2017/``.
            num_val: images in ``val2017/``.
            image_size: side of the square images in pixels, at least 32.
            seed: any non-negative integer.

        Returns:
            The folder with ``annotations/<task>_{train,val}2017.json``, ``train2017/`` and ``val2017/``.

        Raises:
            ValueError: a parameter is out of range.
            UserError: the cache folder can't be written.
        """
        if min(num_train, num_val) < 1 or image_size < MIN_IMAGE_SIZE or seed < 0:
            raise ValueError(
                f"the {self.name} need num_train >= 1, num_val >= 1, image_size >= {MIN_IMAGE_SIZE} and "
                f"seed >= 0, got {num_train}, {num_val}, {image_size} and {seed}"
            )
        root = cache_root() if root is None else Path(root)
        counts = dict(zip(SPLITS, (num_train, num_val), strict=True))
        folder = root / f"{self.name}_v{self.version}_{num_train}_{num_val}_{image_size}px_seed{seed}"
        if self._is_complete(folder, counts):
            return folder
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=root) as workspace:
                draft = Path(workspace, "draft")
                for split, (name, count) in enumerate(counts.items()):
                    self._write_split(draft, name, count, image_size, (seed, split))
                self._install(draft, folder, counts)
        except OSError as error:
            raise UserError(
                f"{root}: can't write the generated data set ({error.strerror}); "
                "set ATTN_MM_CACHE to a folder that can be written"
            ) from error
        return folder

    def _annotation_file(self, folder: Path, split: str) -> Path:
        return folder / "annotations" / f"{self.task}_{split}.json"

    def _is_complete(self, folder: Path, counts: dict[str, int]) -> bool:
        return all(
            self._annotation_file(folder, name).is_file() and len(list(folder.glob(f"{name}/*.jpg"))) == count
            for name, count in counts.items()
        )

    def _install(self, draft: Path, folder: Path, counts: dict[str, int]) -> None:
        """Rename ``draft`` to ``folder``, unless another process was faster; a damaged one goes."""
        for attempt in itertools.count():
            try:
                draft.rename(folder)
                return
            except OSError:
                if self._is_complete(folder, counts):
                    return
                if attempt == MAX_RENAMES:
                    raise
            with contextlib.suppress(FileNotFoundError):
                folder.rename(draft.with_name(f"damaged{attempt}"))

    def _write_split(self, folder: Path, name: str, count: int, size: int, seed: tuple[int, int]) -> None:
        (folder / name).mkdir(parents=True)
        images, annotations = [], []
        for index in range(count):
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([*seed, index])))
            picture, objects = self.draw(rng.random, size)
            file_name = f"{index + 1:012d}.jpg"
            encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
            (folder / name / file_name).write_bytes(encoded.tobytes())
            images.append({"id": index + 1, "file_name": file_name, "width": size, "height": size})
            for annotation in objects:
                annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **annotation})
        self._annotation_file(folder, name).parent.mkdir(exist_ok=True)
        text = json.dumps(self._content(images, annotations), separators=(",", ":"))
        self._annotation_file(folder, name).write_text(text, encoding="ascii")

    def _content(self, images: list[dict], annotations: list[dict]) -> dict:
        """What an annotation file holds."""
        return {
            "info": {"description": f"attn_mm generated {self.name}", "version": str(self.version)},
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": self.categories,
        }


class LabelledSet(GeneratedSet):
    """One class an image, each image with one annotation; the files are in mmengine's format."""

    def _content(self, images: list[dict], annotations: list[dict]) -> dict:
        return {
            "metainfo": {"classes": [category["name"] for category in self.categories]},
            "data_list": [
                {"img_path": image["file_name"], "gt_label": annotation["category_id"] - 1}
                for image, annotation in zip(images, annotations, strict=True)
            ],
        }


def cache_root() -> Path:
    """``$ATTN_MM_CACHE``, else ``attn_mm`` in the user's cache folder."""
    if os.environ.get("ATTN_MM_CACHE"):
        return Path(os.environ["ATTN_MM_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "attn_mm")
