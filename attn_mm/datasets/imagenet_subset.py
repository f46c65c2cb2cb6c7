"""Some of ImageNet's classes, chosen by a list of their WordNet ids."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Literal

from mmpretrain.datasets.base_dataset import BaseDataset

from attn_mm.datasets.checks.text_lines import read_lines
from attn_mm.datasets.folders import labelled_files
from attn_mm.errors import UserError
from attn_mm.registry import DATASETS

_LINE = re.compile(r"(n\d{8})(?:\s+(.*))?")


@DATASETS.register_module()
class ImageNetSubset(BaseDataset):
    """The images of some of ImageNet's class folders, such as ``train/n01440764``.

    Classes have the order of their ids, as in data sets that take every folder.

    Args:
        data_root: the folder that contains ``train`` and ``val``, each with a folder per class.
        split: ``'train'`` or ``'val'``.
        class_file: text file in ``data_root`` with the WordNet id of a class per line, followed by its name
            or nothing. Empty lines are ignored.
        dataset: options of mmpretrain's ``BaseDataset``.

    Raises:
        UserError: if ``class_file`` is missing, a line is no id, an id is repeated, or the folder of a class
            is missing or has no image.
        ValueError: if ``split`` is unknown.
    """

    def __init__(
        self,
        data_root: str,
        split: Literal["train", "val"] = "train",
        class_file: str = "meta/classes.txt",
        **dataset,
    ) -> None:
        if split not in ("train", "val"):
            raise ValueError(f"split must be 'train' or 'val', got {split!r}")
        self.folder = Path(data_root, split)
        self.classes = read_class_file(Path(data_root, class_file))
        metainfo = {"classes": tuple(self.classes.values()), **(dataset.pop("metainfo", None) or {})}
        super().__init__(ann_file="", data_root=data_root, metainfo=metainfo, **dataset)

    def load_data_list(self) -> list[dict]:
        for name in self.classes:
            if not Path(self.folder, name).is_dir():
                raise UserError(
                    f"{self.folder} has no folder {name}: ImageNetSubset needs a folder of images per class"
                )
        infos = labelled_files(self.folder, {name: label for label, name in enumerate(self.classes)})
        shown = {info["gt_label"] for info in infos}
        for label, name in enumerate(self.classes):
            if label not in shown:
                raise UserError(f"{self.folder / name} contains no image: add some, or leave the class out")
        return infos


def read_class_file(path: Path) -> dict[str, str]:
    """Read the names of classes by their WordNet ids, in the order of the ids.

    A class without a name, or whose name another one has, too, is called by its id.
    """
    if not path.exists():
        raise UserError(
            f"{path} is missing: list the WordNet ids of the classes in it, one per line (docs/data.md)"
        )
    found: dict[str, str] = {}
    for number, line in enumerate(read_lines(str(path)), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise UserError(f"{path}, line {number}: {line!r} is no WordNet id such as n01440764")
        if match[1] in found:
            raise UserError(f"{path}, line {number}: {match[1]} is listed twice")
        found[match[1]] = match[2] or match[1]
    if not found:
        raise UserError(f"{path} lists no class")
    names = Counter(found.values())
    return {wnid: name if names[name] == 1 else wnid for wnid, name in sorted(found.items())}
