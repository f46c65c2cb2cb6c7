"""CUB-200-2011 with a box for each bird.

Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, 2011 (https://www.vision.caltech.edu/datasets/cub_200_2011).
"""

from __future__ import annotations

from pathlib import Path

from mmpretrain.datasets import CUB

from attn_mm.errors import UserError
from attn_mm.registry import DATASETS


@DATASETS.register_module()
class CUBBoxes(CUB):
    """CUB-200-2011 whose samples have a ``bbox`` for ``attn_mm.CropToBox``: x1, y1, x2, y2 in pixels.

    Inherits from mmpretrain's ``CUB`` and accepts its options.

    Raises:
        UserError: if ``bounding_boxes.txt`` is missing, or has no box for an image.
    """

    def load_data_list(self) -> list[dict]:
        boxes = _read_boxes(Path(self.data_root))
        infos = super().load_data_list()
        for info in infos:
            name = str(Path(info["img_path"]).relative_to(self.img_prefix))
            if name not in boxes:
                raise UserError(f"{self.data_root}: bounding_boxes.txt has no box for {name}")
            info["bbox"] = boxes[name]
        return infos


def _read_boxes(root: Path) -> dict[str, list[float]]:
    """Read ``bounding_boxes.txt``: x1, y1, x2, y2 by image name."""
    path = root / "bounding_boxes.txt"
    if not path.is_file():
        raise UserError(f"{path} is missing: it is part of CUB-200-2011, see docs/data.md")
    names = dict(line.split() for line in (root / "images.txt").read_text(encoding="utf-8").splitlines())
    boxes = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        number, *sides = line.split()
        x, y, width, height = map(float, sides)
        boxes[names[number]] = [x, y, x + width, y + height]
    return boxes
