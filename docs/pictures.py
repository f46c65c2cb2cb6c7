"""Put pictures side by side for a page: ``python docs/pictures.py OUT.jpg COLUMNS PICTURE [PICTURE ...]``."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

# Pixels: the width of a page, and the gap between pictures.
WIDTH, GAP = 832, 4
QUALITY = 88


def side_by_side(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Arrange pictures, uint8 BGR, in rows of equal cells, as wide as a page together."""
    side = (WIDTH - GAP * (columns - 1)) // columns
    cells = []
    for picture in pictures:
        size = side, round(side * picture.shape[0] / picture.shape[1])
        way = cv2.INTER_AREA if side < picture.shape[1] else cv2.INTER_CUBIC
        cells.append(cv2.resize(picture, size, interpolation=way))
    height = max(cell.shape[0] for cell in cells)
    rows = -(-len(cells) // columns)
    page = np.full((rows * (height + GAP) - GAP, columns * (side + GAP) - GAP, 3), 255, np.uint8)
    for place, cell in enumerate(cells):
        row, column = divmod(place, columns)
        top, left = row * (height + GAP), column * (side + GAP)
        page[top : top + cell.shape[0], left : left + side] = cell
    return page


if __name__ == "__main__":
    target, columns, *paths = sys.argv[1:]
    page = side_by_side([cv2.imread(path) for path in paths], int(columns))
    _, content = cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    Path(target).write_bytes(content.tobytes())
