"""Transforms for mmpretrain's pipelines: load an image, crop to a box, crop to a corner."""

from __future__ import annotations

from typing import Literal

from mmcv.transforms import BaseTransform, LoadImageFromFile

from attn_mm.registry import TRANSFORMS

CORNERS = ("top left", "top right", "bottom left", "bottom right", "centre")


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that also accepts samples whose image is already loaded."""

    def transform(self, results: dict) -> dict | None:
        if "img" not in results:
            return super().transform(results)
        shape = results["img"].shape[:2]
        return dict(results, img_shape=shape, ori_shape=shape)


@TRANSFORMS.register_module()
class CropToBox(BaseTransform):
    """Crop to the sample's ``bbox`` (x1, y1, x2, y2), rounded outwards; without a box, keep the image."""

    def transform(self, results: dict) -> dict:
        if "bbox" not in results:
            return results
        x1, y1, x2, y2 = results["bbox"]
        # Negated twice: rounded up.
        rows, columns = slice(max(0, int(y1)), -int(-y2 // 1)), slice(max(0, int(x1)), -int(-x2 // 1))
        image = results["img"][rows, columns]
        return dict(results, img=image, img_shape=image.shape[:2])


@TRANSFORMS.register_module()
class CornerCrop(BaseTransform):
    """Crop one corner or the centre: one of the five crops of a 10-crop test.

    With both flips, in mmcv's ``TestTimeAug``, the five crops give the ten. Source: Krizhevsky et al.,
    ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012, section 4.1
    (https://doi.org/10.1145/3065386).

    Args:
        crop_size: side of the square crop in pixels.
        corner: ``'top left'``, ``'top right'``, ``'bottom left'``, ``'bottom right'`` or ``'centre'``. The
            centre is that of torchvision's ``five_crop``.

    Raises:
        ValueError: if ``corner`` is unknown; when called, if the image is smaller than the crop.
    """

    def __init__(
        self,
        crop_size: int,
        corner: Literal["top left", "top right", "bottom left", "bottom right", "centre"],
    ) -> None:
        if corner not in CORNERS:
            raise ValueError(f"corner must be one of {', '.join(CORNERS)}, got {corner!r}")
        self.crop_size, self.corner = crop_size, corner

    def transform(self, results: dict) -> dict:
        height, width = results["img"].shape[:2]
        size = self.crop_size
        if min(height, width) < size:
            raise ValueError(
                f"an image of {width} x {height} pixels is smaller than the crop of {size} x {size}"
            )
        if self.corner == "centre":
            top, left = round((height - size) / 2), round((width - size) / 2)
        else:
            top = 0 if self.corner.startswith("top") else height - size
            left = 0 if self.corner.endswith("left") else width - size
        image = results["img"][top : top + size, left : left + size]
        return dict(results, img=image, img_shape=(size, size))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(crop_size={self.crop_size}, corner={self.corner!r})"
