"""ImageNet V2: new test images for ImageNet's classes.

Recht et al., Do ImageNet Classifiers Generalize to ImageNet?, ICML 2019 (https://arxiv.org/abs/1902.10811).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmpretrain.datasets import ImageNet
from mmpretrain.datasets.base_dataset import BaseDataset

from attn_mm.datasets.folders import check_folders, labelled_files
from attn_mm.errors import UserError
from attn_mm.registry import DATASETS

SETS = ("top-images", "matched-frequency", "threshold-0.7")


@DATASETS.register_module()
class ImageNetV2(BaseDataset):
    """The 10,000 images of ``imagenetv2-<split>-format-val``, whose folders are named by class number.

    Args:
        data_root: the folder that contains ``imagenetv2-<split>-format-val``.
        split: ``'top-images'``, ``'matched-frequency'`` or ``'threshold-0.7'``.
        dataset: options of mmpretrain's ``BaseDataset``.

    Raises:
        UserError: if the folder or one of its 1000 class folders is missing.
        ValueError: if ``split`` is unknown.
    """

    METAINFO = ImageNet.METAINFO

    def __init__(
        self,
        data_root: str,
        split: Literal["top-images", "matched-frequency", "threshold-0.7"] = "top-images",
        **dataset,
    ) -> None:
        if split not in SETS:
            raise ValueError(f"split must be one of {', '.join(SETS)}, got {split!r}")
        self.split = split
        super().__init__(ann_file="", data_root=data_root, **dataset)

    def load_data_list(self) -> list[dict]:
        folder = Path(self.data_root, f"imagenetv2-{self.split}-format-val")
        if not folder.is_dir():
            raise UserError(f"{folder} is missing: docs/data.md says where to get it")
        # As text they sort as 0, 1, 10, 100, ...: the numbers are the labels.
        numbers = [str(label) for label in range(len(self.metainfo["classes"]))]
        check_folders(folder, numbers)
        return labelled_files(folder, {number: int(number) for number in numbers})
