"""CIFAR-10 and CIFAR-100, read from the archive's files or from folders of images.

Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009
(https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

import os.path as osp

from mmengine.dataset import BaseDataset
from mmpretrain.datasets import CIFAR10 as MMPretrainCIFAR10
from mmpretrain.datasets import CIFAR100 as MMPretrainCIFAR100

from attn_mm.datasets.folders import check_folders, labelled_files
from attn_mm.errors import UserError
from attn_mm.registry import DATASETS


class BothLayouts(BaseDataset):
    """Mixin for mmpretrain's CIFAR sets that also reads folders of images; images are BGR.

    ``data_root`` contains the archive's files (``cifar-10-batches-py`` or ``cifar-100-python``), or folders
    ``train`` and ``test`` with one folder per class, named like CIFAR's classes. A sample has its image as
    ``img`` or its file name as ``img_path``; ``attn_mm.LoadImage`` accepts both. Nothing is downloaded.

    Raises:
        UserError: if neither layout is found, a file is damaged, or the folders don't match the classes.
    """

    def load_data_list(self) -> list[dict]:
        root = self.data_prefix["root"]
        folder = osp.join(root, self.split)
        if osp.isdir(folder):
            check_folders(folder, self.metainfo["classes"])
            return labelled_files(folder, self.class_to_idx)
        if not self._check_integrity():
            raise UserError(
                f"{osp.abspath(root)} contains neither an undamaged {self.base_folder} nor a folder "
                f"{self.split} with one folder per class: see docs/data.md"
            )
        return [dict(info, img=info["img"][..., ::-1]) for info in super().load_data_list()]


@DATASETS.register_module()
class CIFAR10(BothLayouts, MMPretrainCIFAR10):
    """CIFAR-10, in either layout of :class:`BothLayouts`."""


@DATASETS.register_module()
class CIFAR100(BothLayouts, MMPretrainCIFAR100):
    """CIFAR-100, in either layout of :class:`BothLayouts`."""
