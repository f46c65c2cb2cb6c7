"""CIFAR-10 and CIFAR-100, from their own files or from folders of images.

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
    """Mixin: a CIFAR of mmpretrain's that also reads folders of images, and gives BGR either way.

    ``data_root`` holds ``cifar-10-batches-py`` (``cifar-100-python``), the files of the archive; or
    ``train`` and ``test`` with a folder for each class, named as CIFAR names it. A sample has its
    image as ``img`` or its file as ``img_path``: ``attn_mm.LoadImage`` takes both. Nothing is downloaded.

    Raises:
        UserError: neither is there, a file is damaged, or the folders are not those of the classes.
    """

    def load_data_list(self) -> list[dict]:
        root = self.data_prefix["root"]
        folder = osp.join(root, self.split)
        if osp.isdir(folder):
            check_folders(folder, self.metainfo["classes"])
            return labelled_files(folder, self.class_to_idx)
        if not self._check_integrity():
            raise UserError(
                f"{osp.abspath(root)} holds neither {self.base_folder}, whole and undamaged, nor a folder "
                f"{self.split} with one of images for each class: docs/data.md says where they come from"
            )
        return [dict(info, img=info["img"][..., ::-1]) for info in super().load_data_list()]


@DATASETS.register_module()
class CIFAR10(BothLayouts, MMPretrainCIFAR10):
    """CIFAR-10: :class:`BothLayouts` of mmpretrain's ``CIFAR10``."""


@DATASETS.register_module()
class CIFAR100(BothLayouts, MMPretrainCIFAR100):
    """CIFAR-100: :class:`BothLayouts` of mmpretrain's ``CIFAR100``."""
