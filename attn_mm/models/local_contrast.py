"""The normalisation of images in cifar.torch: YUV, with a local one of the luma.

Zagoruyko, cifar.torch, 2015 (https://github.com/szagoruyko/cifar.torch), which LTPA's appendix A.2 names.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmpretrain.models.utils.data_preprocessor import ClsDataPreprocessor
from torch import Tensor
from torch.nn import functional as F

# Torch's rgb2yuv.
_YUV = (
    (0.299, 0.587, 0.114),
    (-0.14713, -0.28886, 0.436),
    (0.615, -0.51499, -0.10001),
)
# Torch's gaussian1D: a standard deviation of a quarter of the size.
_SIZE = 7
_SHARE = 0.25
_LEAST_DEVIATION = 1e-4


class LocalContrast(ClsDataPreprocessor):
    """Convert images to YUV; normalise Y by its surroundings, and U and V by a mean and deviation each.

    From Y its Gaussian mean over 7x7 pixels is subtracted, then it is divided by the root of the Gaussian
    mean of its squares. Pixels outside the image don't count. It is differentiable, and runs where the model
    does.

    Args:
        mean: of U and V over the training set, for pixels from 0 to 255.
        std: their standard deviations.
        to_rgb: whether images are BGR.
        num_classes, to_onehot: as in mmpretrain's ``ClsDataPreprocessor``.
        batch_augments: must be None; mmpretrain's classifiers always give it.

    Raises:
        ValueError: ``mean`` or ``std`` isn't two numbers, a deviation isn't above 0, or images are mixed.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        to_rgb: bool = True,
        num_classes: int | None = None,
        to_onehot: bool = False,
        batch_augments: None = None,
    ) -> None:
        if batch_augments is not None:
            raise ValueError(
                "batch_augments would mix images before they are normalised: leave train_cfg.augments out"
            )
        if len(mean) != 2 or len(std) != 2 or min(std) <= 0:
            raise ValueError(f"mean and std must be those of U and V, got {mean!r} and {std!r}")
        super().__init__(to_rgb=to_rgb, num_classes=num_classes, to_onehot=to_onehot)
        places = torch.arange(_SIZE) - _SIZE // 2
        kernel = torch.exp(-((places / (_SHARE * _SIZE)) ** 2) / 2)
        self.register_buffer("kernel", kernel / kernel.sum(), False)
        self.register_buffer("yuv", torch.tensor(_YUV), False)
        self.register_buffer("chroma_mean", torch.tensor(mean).view(2, 1, 1), False)
        self.register_buffer("chroma_std", torch.tensor(std).view(2, 1, 1), False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """See ``ClsDataPreprocessor``; images are RGB or BGR, 0 to 255."""
        data = super().forward(data, training)
        return {**data, "inputs": self._normalised(data["inputs"])}

    def _normalised(self, images: Tensor) -> Tensor:
        yuv = torch.einsum("kc,nchw->nkhw", self.yuv, images)
        chroma = (yuv[:, 1:] - self.chroma_mean) / self.chroma_std
        return torch.cat([self._local_contrast(yuv[:, :1]), chroma], dim=1)

    def _local_contrast(self, y: Tensor) -> Tensor:
        inside = self._blurred(torch.ones_like(y[:1]))
        y = y - self._blurred(y) / inside
        # Torch divides the root of the sum, not the sum, by the share inside. The root has no gradient at 0,
        # so the limit comes before it.
        least = (_LEAST_DEVIATION * inside) ** 2
        return y * inside / torch.maximum(self._blurred(y**2), least).sqrt()

    def _blurred(self, y: Tensor) -> Tensor:
        rows, columns = self.kernel.view(1, 1, -1, 1), self.kernel.view(1, 1, 1, -1)
        y = F.conv2d(y, rows, padding=(_SIZE // 2, 0))
        return F.conv2d(y, columns, padding=(0, _SIZE // 2))
