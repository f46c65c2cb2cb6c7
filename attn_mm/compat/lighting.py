"""mmpretrain's Lighting keeps dark and bright pixels in range.

mmpretrain 1.2.0 adds a colour to the image and casts the sum to uint8 without a limit
(mmpretrain/datasets/transforms/processing.py:1075), which makes 255 + 3 a black 2. The patch clips it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from attn_mm.compat.lazy import after_import


def _clip_sums(module: ModuleType) -> None:
    add = module.mmcv.adjust_lighting

    def transform(self: Any, results: dict) -> dict:
        image = results["img"]
        lit = add(image, self.eigval, self.eigvec, alphastd=self.alphastd, to_rgb=self.to_rgb)
        if np.issubdtype(image.dtype, np.integer):
            limits = np.iinfo(image.dtype)
            lit = np.clip(np.rint(lit), limits.min, limits.max)
        results["img"] = lit.astype(image.dtype)
        return results

    module.Lighting.transform = transform


def patch() -> None:
    after_import("mmpretrain.datasets.transforms.processing", _clip_sums)
