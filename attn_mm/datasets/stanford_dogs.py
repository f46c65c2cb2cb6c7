"""Stanford Dogs: 120 breeds of dogs.

Khosla et al., Novel Dataset for Fine-Grained Image Categorization, 2011
(http://vision.stanford.edu/aditya86/ImageNetDogs).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmpretrain.datasets.base_dataset import BaseDataset

from attn_mm.datasets.matlab import load_mat
from attn_mm.errors import UserError
from attn_mm.registry import DATASETS


@DATASETS.register_module()
class StanfordDogs(BaseDataset):
    """The 12,000 images of ``train_list.mat`` or the 8,580 of ``test_list.mat``, in ``Images``.

    Args:
        data_root: the folder that contains ``Images`` and the two lists.
        split: ``'train'`` or ``'test'``.
        dataset: options of mmpretrain's ``BaseDataset``.

    Raises:
        UserError: if a file is missing or damaged.
        ValueError: if ``split`` is unknown.
    """

    def __init__(self, data_root: str, split: Literal["train", "test"] = "train", **dataset) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}")
        self.split = split
        super().__init__(ann_file="", data_root=data_root, data_prefix="Images", **dataset)

    def load_data_list(self) -> list[dict]:
        path = Path(self.data_root, f"{self.split}_list.mat")
        content = load_mat(path)
        if not {"file_list", "labels"} <= content.keys():
            raise UserError(f"{path} is not a list of Stanford Dogs: it has no file_list and labels")
        names = [str(cell.item()) for cell in content["file_list"].ravel()]
        labels = [int(label) - 1 for label in content["labels"].ravel()]
        # n02085620-Chihuahua/n02085620_10074.jpg
        breeds = {
            label: name.split("/")[0].split("-", 1)[1] for name, label in zip(names, labels, strict=True)
        }
        self._metainfo.setdefault(
            "classes", tuple(breeds[label].replace("_", " ") for label in sorted(breeds))
        )
        return [
            {"img_path": str(Path(self.img_prefix, name)), "gt_label": label}
            for name, label in zip(names, labels, strict=True)
        ]
