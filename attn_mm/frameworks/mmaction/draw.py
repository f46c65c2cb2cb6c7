"""Write actions onto a frame."""

from __future__ import annotations

import cv2
import numpy as np

from attn_mm.maps.overlay import enlarged

_FONT, _TEXT, _BOX = cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255), (30, 30, 30)


# The picture's share in the mix of picture and box behind the text.
_GLASS = 0.35
_MARGIN = 8


def draw_actions(image: np.ndarray, actions: list[dict]) -> np.ndarray:
    """Write the score and class of each action into the top left corner of an image, a line each.

    Args:
        image: (H, W, 3), uint8, BGR.
        actions: ``{"class", "score"}``, as :meth:`Recogniser.best` returns them.

    Returns:
        the picture, uint8, BGR, enlarged if the image is small.
    """
    picture = enlarged(image)[0].copy()
    lines = [f"{action['score']:.2f}  {action['class']}" for action in actions]
    scale = max(picture.shape[:2]) / 800
    widest = max(cv2.getTextSize(line, _FONT, scale, 1)[0][0] for line in lines)
    # Long names are written smaller.
    fit = min(1.0, (picture.shape[1] - 2 * _MARGIN) / widest)
    scale, widest = scale * fit, round(widest * fit)
    step = round(38 * scale)
    box = picture[: step * len(lines) + _MARGIN, : widest + 2 * _MARGIN]
    box[:] = np.rint(_GLASS * box + (1 - _GLASS) * np.array(_BOX))
    for row, line in enumerate(lines, start=1):
        origin = (_MARGIN, row * step)
        cv2.putText(picture, line, origin, _FONT, scale, _TEXT, max(1, round(1.6 * scale)), cv2.LINE_AA)
    return picture
