"""Generated data sets: created in seconds, stored in a cache, identical on every machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from attn_mm.errors import UserError
from attn_mm.utils.progress import progress_bar

MAX_RENAMES = 10
_CHECKSUMS = "checksums.json"


@dataclass(frozen=True)
class GeneratedSet(ABC):
    """A kind of generated data set; :meth:`make` creates one of the requested size.

    Attributes:
        name: the start of the folder's name.
        version: part of the cache key; increase it with every change that alters a file's content.
        splits: the folders of the training and evaluation samples.
        min_size: the smallest allowed size in pixels.
    """

    name: str
    version: int
    splits: ClassVar[tuple[str, str]]
    min_size: ClassVar[int]

    def make(
        self, root: str | os.PathLike | None, num_train: int, num_val: int, image_size: int, seed: int
    ) -> Path:
        """Return the folder of the data set; the first call with these parameters draws it.

        The annotations are byte for byte the same on every machine. Sample ``i`` of a
        split depends only on ``seed`` and ``i``, so a longer set extends a shorter one.
        Several processes may call this at once. A damaged folder is drawn again.

        Args:
            root: cache folder; defaults to :func:`cache_root`.
            num_train: number of samples in the first of ``splits``.
            num_val: number of samples in the second.
            image_size: side of the square images or frames in pixels, at least ``min_size``.
            seed: any non-negative integer.

        Returns:
            The folder.

        Raises:
            ValueError: if a parameter is out of range.
            UserError: if the cache folder can't be written.
        """
        if min(num_train, num_val) < 1 or image_size < self.min_size or seed < 0:
            raise ValueError(
                f"the {self.name} need num_train >= 1, num_val >= 1, image_size >= {self.min_size} and "
                f"seed >= 0, got {num_train}, {num_val}, {image_size} and {seed}"
            )
        root = cache_root() if root is None else Path(root)
        counts = dict(zip(self.splits, (num_train, num_val), strict=True))
        folder = root / f"{self.name}_v{self.version}_{num_train}_{num_val}_{image_size}px_seed{seed}"
        if _is_whole(folder):
            return folder
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=root) as workspace:
                draft = Path(workspace, "draft")
                with progress_bar(transient=True) as progress:
                    task = progress.add_task(f"drawing {self.name}", total=num_train + num_val)
                    for split, (name, count) in enumerate(counts.items()):
                        for _ in self._write_split(draft, name, count, image_size, (seed, split)):
                            progress.advance(task)
                (draft / _CHECKSUMS).write_text(json.dumps(_checksums(draft)), encoding="ascii")
                _install(draft, folder)
        except OSError as error:
            raise UserError(
                f"{root}: can't write the generated data set ({error.strerror}); "
                "set ATTN_MM_CACHE to a writable folder"
            ) from error
        return folder

    @abstractmethod
    def draw_sample(self, random: Callable, size: int, index: int) -> tuple[np.ndarray, Any]:
        """Draw a sample.

        Args:
            random: a source of uniform numbers in [0, 1), called as ``random()`` or ``random(shape)``. The
                results of a generator's other methods depend on the version of NumPy.
            size: side of the images or frames in pixels.
            index: number of the sample in its split, from 0.

        Returns:
            The sample and its annotation.
        """

    @abstractmethod
    def annotation_file(self, folder: Path, split: str) -> Path:
        """The annotation file of a split."""

    @abstractmethod
    def write_sample(self, folder: Path, number: int, sample) -> str:
        """Write sample ``number`` (from 1) into ``folder`` and return the file's name."""

    @abstractmethod
    def annotations(self, entries: list[tuple[str, Any]], size: int) -> str:
        """The text of an annotation file, from each sample's file name and annotation."""

    def _write_split(
        self, folder: Path, name: str, count: int, size: int, seed: tuple[int, int]
    ) -> Iterator[None]:
        """Draw a split; yields after each sample."""
        (folder / name).mkdir(parents=True)
        entries = []
        for index in range(count):
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([*seed, index])))
            sample, said = self.draw_sample(rng.random, size, index)
            entries.append((self.write_sample(folder / name, index + 1, sample), said))
            yield
        path = self.annotation_file(folder, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.annotations(entries, size), encoding="ascii")


def _checksums(folder: Path) -> dict[str, int]:
    """A number for the content of each file in a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != _CHECKSUMS)
    return {path.relative_to(folder).as_posix(): zlib.crc32(path.read_bytes()) for path in files}


def _is_whole(folder: Path) -> bool:
    """Whether all of a set's files are as they were drawn."""
    try:
        return json.loads((folder / _CHECKSUMS).read_bytes()) == _checksums(folder)
    except (OSError, ValueError, RecursionError):
        return False


def _install(draft: Path, folder: Path) -> None:
    """Rename ``draft`` to ``folder``, unless another process was faster; replace a damaged one."""
    for attempt in itertools.count():
        try:
            draft.rename(folder)
            return
        except OSError:
            if _is_whole(folder):
                return
            if attempt == MAX_RENAMES:
                raise
        with contextlib.suppress(FileNotFoundError):
            folder.rename(draft.with_name(f"damaged{attempt}"))


@dataclass(frozen=True)
class ImageSet(GeneratedSet):
    """Images in ``train2017/`` and ``val2017/``, annotated in ``annotations/<task>_{train,val}2017.json``.

    Attributes:
        task: the start of the annotation files' names.
        categories: COCO's list of categories.
        draw: draws a picture, uint8 (size, size, 3) BGR, and its annotation from a source of random numbers
            and a size.
    """

    task: str
    categories: list[dict]
    draw: Callable[[Callable, int], tuple[np.ndarray, Any]]
    splits = ("train2017", "val2017")

    def draw_sample(self, random: Callable, size: int, index: int) -> tuple[np.ndarray, Any]:
        return self.draw(random, size)

    def annotation_file(self, folder: Path, split: str) -> Path:
        return folder / "annotations" / f"{self.task}_{split}.json"

    def write_sample(self, folder: Path, number: int, sample: np.ndarray) -> str:
        name = f"{number:012d}.jpg"
        encoded = cv2.imencode(".jpg", sample, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        (folder / name).write_bytes(encoded.tobytes())
        return name


class CocoSet(ImageSet):
    """Images in COCO's format; ``draw`` returns the list of an image's annotations, without ids."""

    min_size = 64

    def annotations(self, entries: list[tuple[str, list[dict]]], size: int) -> str:
        images: list[dict] = []
        annotations: list[dict] = []
        for number, (name, objects) in enumerate(entries, start=1):
            images.append({"id": number, "file_name": name, "width": size, "height": size})
            for annotation in objects:
                annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation})
        content = {
            "info": {"description": f"attn_mm generated {self.name}", "version": str(self.version)},
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": self.categories,
        }
        return json.dumps(content, separators=(",", ":"))


class LabelledSet(ImageSet):
    """Images in the format of mmengine's ``BaseDataset``; ``draw`` returns an entry without its name."""

    min_size = 32

    def annotations(self, entries: list[tuple[str, dict]], size: int) -> str:
        content = {
            "metainfo": {"classes": [category["name"] for category in self.categories]},
            "data_list": [{"img_path": name, **said} for name, said in entries],
        }
        return json.dumps(content, separators=(",", ":"))


def cache_root() -> Path:
    """The cache folder: ``$ATTN_MM_CACHE``, or else ``attn_mm`` in the user's cache folder."""
    if os.environ.get("ATTN_MM_CACHE"):
        return Path(os.environ["ATTN_MM_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "attn_mm")
