"""Lay a map over the image that it attends to.

It uses only NumPy and OpenCV. A network sees an image resized and padded at the right and at the bottom;
:func:`fit_to_image` undoes both.
"""

from __future__ import annotations

import cv2
import numpy as np

from attn_mm.maps.colours import COLOURS, colours

# So that a flat mask is shown flat, not as stretched noise.
MIN_SPAN = 0.1

OPACITY = 0.55
GAP = 8
INK, PAPER = (40, 40, 40), (255, 255, 255)


def fit_to_image(
    mask: np.ndarray, image_size: tuple[int, ...], valid: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """Interpolate a mask linearly at the centres of the pixels of an image or of a clip's frames.

    Args:
        mask: (h, w), or (t, h, w) over a clip, at any resolution.
        image_size: (height, width) of the image in pixels; (frames, height, width) for a clip.
        valid: the share of the mask's height and width, from the top left corner,
            that shows the image; the rest is the padding of the network's input.

    Returns:
        The mask on the pixels of the image, (height, width), or of the frames, (frames, height, width);
        float64.
    """
    mask = np.asarray(mask, np.float64)
    parts = (*(1.0,) * (mask.ndim - 2), *valid)
    for axis, (pixels, part) in enumerate(zip(image_size, parts, strict=True)):
        cells = mask.shape[axis]
        centres = (np.arange(pixels) + 0.5) * (cells * part / pixels) - 0.5
        centres = centres.clip(0, cells - 1)
        lower = np.floor(centres).astype(np.intp)
        upper = np.minimum(lower + 1, cells - 1)
        weight = (centres - lower).reshape(-1, *(1,) * (mask.ndim - 1 - axis))
        mask = mask.take(lower, axis) * (1 - weight) + mask.take(upper, axis) * weight
    return mask


def value_range(mask: np.ndarray) -> tuple[float, float]:
    """The values at the ends of a mask's colour scale: its extremes, at least ``MIN_SPAN`` apart."""
    low, high = float(np.min(mask)), float(np.max(mask))
    slack = max(0.0, MIN_SPAN - (high - low)) / 2
    return low - slack, high + slack


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    limits: tuple[float, float] | None = None,
    scale: str = COLOURS[0],
) -> np.ndarray:
    """Colour a grey copy of an image by a mask.

    Args:
        image: (H, W, 3) uint8 BGR.
        mask: (h, w) over the whole image.
        limits: the values at the ends of the colour scale; ``None`` uses the mask's :func:`value_range`.
        scale: name of the colour scale, see :func:`attn_mm.maps.colours.colours`.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    low, high = limits or value_range(mask)
    level = (fit_to_image(mask, image.shape[:2]) - low) / (high - low)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None]
    return np.rint(OPACITY * colours(level, scale) + (1 - OPACITY) * grey).astype(np.uint8)


def write_text(picture: np.ndarray, text: str, origin: tuple[int, int], size: float = 0.45) -> None:
    """Write ``text``, its lower left corner at ``origin`` (x, y), into a picture."""
    cv2.putText(picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA)


# Labels and lines have a fixed size in pixels: smaller images are drawn enlarged.
MIN_PICTURE_SIDE = 480


def enlarged(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Enlarge an image until it is large enough to draw on; returns it and the factor."""
    zoom = MIN_PICTURE_SIDE / max(image.shape[:2])
    if zoom <= 1:
        return image, 1.0
    return cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC), zoom
