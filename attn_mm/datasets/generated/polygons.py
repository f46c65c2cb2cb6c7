"""Convert polygons to pixels, and pixels to COCO's boxes and run lengths.

OpenCV's polygon filling is not used, because its result depends on the version.
"""

from __future__ import annotations

import math

import numpy as np

# Shapes are rasterised on a grid this much finer; a pixel is in the mask if at least half is covered.
SUPERSAMPLING = 4


# Rows and columns of an image, and the covered share of each pixel there, 0 to 1.
Patch = tuple[slice, slice, np.ndarray]


def blend(canvas: np.ndarray, patch: Patch, colour: np.ndarray) -> None:
    """Paint ``patch`` on ``canvas`` (size, size, 3), in place."""
    rows, columns, share = patch
    window = canvas[rows, columns]
    window += share[..., None] * (colour - window)


def mask_of(patch: Patch, size: int) -> np.ndarray:
    """The mask, bool (size, size), of the pixels that ``patch`` covers at least half."""
    rows, columns, share = patch
    mask = np.zeros((size, size), bool)
    mask[rows, columns] = 2 * share >= 1
    return mask


def coverage(contours: list[np.ndarray], size: int) -> Patch:
    """Compute the share of each pixel that is inside an odd number of ``contours``.

    Args:
        contours: closed outlines, (points, 2) each, in pixels from the image's top left corner;
            they may extend outside the image. The first one encloses the others.
        size: side of the image in pixels.

    Returns:
        The part of the image that the contours cover.
    """
    low = np.floor(contours[0].min(axis=0)).clip(0, size).astype(int)
    high = np.ceil(contours[0].max(axis=0)).clip(low, size).astype(int)
    width, height = high - low
    fine = fill([(contour - low) * SUPERSAMPLING for contour in contours], (height, width))
    rows = fine.reshape(height, SUPERSAMPLING, width * SUPERSAMPLING).sum(axis=1, dtype=np.uint8)
    # A sum along an axis of a few numbers is several times slower.
    cells = sum(rows[:, column::SUPERSAMPLING] for column in range(SUPERSAMPLING))
    return slice(low[1], high[1]), slice(low[0], high[0]), cells / SUPERSAMPLING**2


def fill(contours: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Find the cells whose centres are inside an odd number of contours.

    Args:
        contours: closed outlines, (points, 2) each, in cells.
        size: height and width in pixels, of ``SUPERSAMPLING`` cells each.

    Returns:
        uint8, 0 or 1, ``SUPERSAMPLING`` times ``size``.
    """
    height, width = (side * SUPERSAMPLING for side in size)
    # Crossings beyond the right border are counted in an extra column.
    crossings = np.zeros((height, width + 1), np.uint8)
    centres = np.arange(height) + 0.5
    for contour in contours:
        (x0, y0), (x1, y1) = contour.T, np.concatenate([contour[1:], contour[:1]]).T
        edge, row = np.nonzero((y0[:, None] <= centres) != (y1[:, None] <= centres))
        x = x0[edge] + (centres[row] - y0[edge]) / (y1 - y0)[edge] * (x1 - x0)[edge]
        np.add.at(crossings, (row, np.ceil(x - 0.5).clip(0, width).astype(np.intp)), 1)
    return np.add.accumulate(crossings[:, :-1], axis=1, dtype=np.uint8) & 1


def arc(radius: float, points: int = 48) -> np.ndarray:
    """The corners (points, 2) of a regular polygon around the origin, with this radius."""
    angles = np.linspace(0, 2 * math.pi, points, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def box(mask: np.ndarray) -> list[int]:
    """The box ``[x, y, width, height]`` of a mask."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run-length code: lengths of alternating runs, column by column, zeros first."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff([0, *edges, mask.size]).tolist()
