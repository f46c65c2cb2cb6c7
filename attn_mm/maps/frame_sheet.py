"""Draw the frames of a short video in one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from attn_mm.maps.sheet import Sheet, wrapped

COLUMNS = 8
FRAME_WIDTH = 160
GAP = 8


def frame_sheet(frames: Sequence[np.ndarray], lines: Sequence[str]) -> Sheet:
    """Draw frames in rows of :data:`COLUMNS` below lines of text.

    Args:
        frames: (H, W, 3) uint8 BGR, all of one size.
        lines: lines of text.
    """
    zoom = FRAME_WIDTH / frames[0].shape[1]
    size = FRAME_WIDTH, max(1, round(zoom * frames[0].shape[0]))
    way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_NEAREST
    width = COLUMNS * (FRAME_WIDTH + GAP) - GAP
    sheet = Sheet(width)
    top = sheet.lines(0, 0, [part for line in lines for part in wrapped(line, width)])
    for place, frame in enumerate(frames):
        row, column = divmod(place, COLUMNS)
        small = cv2.resize(frame, size, interpolation=way)
        sheet.picture(column * (FRAME_WIDTH + GAP), round(top) + GAP + row * (size[1] + GAP), small)
    return sheet
