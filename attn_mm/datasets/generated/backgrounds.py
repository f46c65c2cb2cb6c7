"""Textured backgrounds, contrasting colours and noise for the generated pictures."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np


def background(random: Callable, size: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draw a canvas (size, size, 3) that blends two colours in one of four textures; return both too."""
    angle, period, phase = 2 * math.pi * random(), size * (0.08 + 0.2 * random()), 2 * math.pi * random()
    y, x = np.mgrid[:size, :size]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    texture = int(random() * 4)
    if texture == 0:
        blend = 0.5 + along / (2 * size)
    elif texture == 1:
        blend = 0.5 + 0.5 * np.sin(2 * math.pi * along / period + phase)
    elif texture == 2:
        checks = np.sin(2 * math.pi * along / period + phase) * np.sin(2 * math.pi * across / period)
        blend = (checks > 0).astype(np.float64)
    else:
        grid = 4 + int(random() * 12)
        blend = cv2.resize(random((grid, grid)), (size, size), interpolation=cv2.INTER_CUBIC)
    first = 255 * random(3)
    second = np.clip(first + 120 * (random(3) - 0.5), 0, 255)
    return first + blend[..., None] * (second - first), [first, second]


def contrasting_colour(random: Callable, used: list[np.ndarray]) -> np.ndarray:
    """Pick the one of eight random colours that differs most from the used ones."""
    return most_different(255 * random((8, 3)), used)


def most_different(candidates: np.ndarray, used: list[np.ndarray]) -> np.ndarray:
    """The one of the candidates, (number, 3), that differs most from the used colours."""
    distances = np.linalg.norm(candidates[:, None] - np.stack(used), axis=2).min(axis=1)
    return candidates[distances.argmax()]


def with_noise(random: Callable, canvas: np.ndarray) -> np.ndarray:
    """Add camera noise to ``canvas`` and convert it to uint8."""
    noisy = canvas + 24 * (random(canvas.shape) - 0.5)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
