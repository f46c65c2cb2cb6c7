"""Draw the frames of a short video in one picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from attn_mm.maps.overlay import INK, PAPER

COLUMNS = 8
FRAME_WIDTH = 160
GAP = 4
LINE = 26


def frame_sheet(frames: Sequence[np.ndarray], lines: Sequence[str]) -> np.ndarray:
    """Draw frames in rows of :data:`COLUMNS` below lines of text.

    Args:
        frames: (H, W, 3) uint8 BGR, all of one size.
        lines: lines of text.

    Returns:
        The picture, uint8 BGR.
    """
    zoom = FRAME_WIDTH / frames[0].shape[1]
    way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_NEAREST
    panels = [
        cv2.copyMakeBorder(
            cv2.resize(frame, (FRAME_WIDTH, max(1, round(zoom * frame.shape[0]))), interpolation=way),
            *(GAP,) * 4,
            cv2.BORDER_CONSTANT,
            value=PAPER,
        )
        for frame in frames
    ]
    panels += [np.full_like(panels[0], PAPER)] * (-len(panels) % COLUMNS)
    head = np.full((LINE * len(lines) + GAP, COLUMNS * panels[0].shape[1], 3), PAPER, np.uint8)
    for number, line in enumerate(lines, start=1):
        origin = (GAP, LINE * number - GAP)
        cv2.putText(head, line, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.6, INK, 1, cv2.LINE_AA)
    rows = [np.hstack(panels[start : start + COLUMNS]) for start in range(0, len(panels), COLUMNS)]
    return np.vstack([head, *rows])
