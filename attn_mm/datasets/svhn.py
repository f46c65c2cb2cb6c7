"""Street View House Numbers, cropped digits of 32x32 pixels.

Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011
(http://ufldl.stanford.edu/housenumbers).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from mmpretrain.datasets.base_dataset import BaseDataset

from attn_mm.datasets.matlab import load_mat
from attn_mm.errors import UserError
from attn_mm.registry import DATASETS


@DATASETS.register_module()
class SVHN(BaseDataset):
    """SVHN's second format: ``train_32x32.mat`` (73,257 digits) and ``test_32x32.mat`` (26,032).

    A sample has its image as ``img``, uint8 BGR. The files label the digit 0 as 10; here its label is 0.

    Args:
        data_root: the folder of the files.
        split: ``'train'`` or ``'test'``.
        dataset: options of mmpretrain's ``BaseDataset``.

    Raises:
        UserError: if the file is missing or damaged.
        ValueError: if ``split`` is unknown.
    """

    METAINFO: ClassVar[dict] = {"classes": tuple("0123456789")}

    def __init__(self, data_root: str, split: Literal["train", "test"] = "train", **dataset) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}")
        self.split = split
        super().__init__(ann_file="", data_root=data_root, **dataset)

    def load_data_list(self) -> list[dict]:
        path = Path(self.data_root, f"{self.split}_32x32.mat")
        content = load_mat(path)
        if not {"X", "y"} <= content.keys():
            raise UserError(f"{path} is not a file of SVHN: it has no images X and labels y")
        images = content["X"].transpose(3, 0, 1, 2)[..., ::-1]
        labels = content["y"].ravel() % 10
        return [{"img": image, "gt_label": int(label)} for image, label in zip(images, labels, strict=True)]
