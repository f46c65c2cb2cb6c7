"""Turn a classifier's attention maps into segmentations, and score them.

Jetley et al., Learn To Pay Attention, ICLR 2018, section 5.4 and appendix A.4 (https://arxiv.org/abs/1804.02391).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def combine(maps: Sequence[np.ndarray], root: bool = True) -> np.ndarray:
    """Multiply maps, take the square root if ``root``, and rescale to 0..1; a constant map becomes 0.

    The square root of two levels' product is "a probability distribution in the limit of the two approaching
    each other". A single map is only rescaled.

    Args:
        maps: one or two maps, ``(H, W)`` each, not negative.
        root: False for progressive attention, whose maps "are not complementary but sequential".
    """
    product = np.prod(np.asarray(maps, np.float64), axis=0)
    if root and len(maps) == 2:
        product = np.sqrt(product)
    low, high = product.min(), product.max()
    return (product - low) / (high - low) if high > low else np.zeros_like(product)


def binarise(level: np.ndarray) -> np.ndarray:
    """Threshold a map of 0..1 by Otsu's method in 256 levels; bool ``(H, W)``."""
    grey = np.rint(255 * level).astype(np.uint8)
    return cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1].astype(bool)


def jaccard(found: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two bool masks of one shape; ValueError if both are empty."""
    union = np.count_nonzero(found | truth)
    if not union:
        raise ValueError("two empty masks have no Jaccard index")
    return np.count_nonzero(found & truth) / union
