"""Summarise an attention's values as statistics and small arrays, for a web page."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from attn_mm.maps.overlay import fit_to_image

# Levels of a value that a page gets: a byte's.
LEVELS = 255
# Of a distribution over channels or weights.
BINS = 32


def summarise(values: np.ndarray) -> dict[str, float]:
    """Mean, spread, minimum and maximum of ``values``; the spread is the population standard deviation."""
    values = np.asarray(values, np.float64)
    return {
        "mean": float(values.mean()),
        "spread": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def at_frame(values: np.ndarray, index: int, frames: int) -> np.ndarray:
    """Interpolate a map over a clip linearly at the middle of one of its frames.

    Args:
        values: (t, h, w).
        index: index of the frame, from 0.
        frames: number of frames in the clip.

    Returns:
        (h, w), float64.
    """
    return fit_to_image(values, (frames, *values.shape[1:]))[index]


def reduced(values: np.ndarray, side: int) -> np.ndarray:
    """Shrink a map (h, w) to at most ``side`` cells a side, by means over equal areas."""
    longer = max(values.shape)
    if longer <= side:
        return np.asarray(values, np.float64)
    size = [max(1, round(length * side / longer)) for length in values.shape[::-1]]
    return cv2.resize(np.asarray(values, np.float64), size, interpolation=cv2.INTER_AREA)


def packed(values: np.ndarray) -> dict:
    """Encode a map (h, w) for JSON: ``{"size": [h, w], "low", "high", "levels"}``.

    ``levels`` are bytes, row by row, in base64. Level l means low + l / 255 (high - low); its error is at
    most (high - low) / 510.
    """
    values = np.asarray(values, np.float64)
    low, high = float(values.min()), float(values.max())
    span = high - low or 1.0
    levels = np.rint((values - low) / span * LEVELS).astype(np.uint8)
    return {
        "size": list(values.shape),
        "low": low,
        "high": high,
        "levels": base64.b64encode(levels.tobytes()).decode("ascii"),
    }


def histogram(values: np.ndarray, bounds: tuple[float, float], bins: int) -> list[int]:
    """Count the ``values`` in each of ``bins`` equal parts of ``bounds``, including both ends."""
    return np.histogram(np.asarray(values, np.float64), bins, bounds)[0].tolist()
