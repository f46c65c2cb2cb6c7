"""Actions as text over a frame."""

from __future__ import annotations

import cv2
import numpy as np

from attn_mm.maps.overlay import enlarged

_FONT, _TEXT, _BOX = cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255), (30, 30, 30)


# How much of the picture is left to be seen behind the text.
_GLASS = 0.35


_MARGIN = 8


def draw_actions(image: np.ndarray, actions: list[dict]) -> np.ndarray:
    """An image, uint8 BGR, with score and class of each action in lines of text over its top left corner.

    Args:
        actions: ``{"class", "score"}``, as :meth:`Recogniser.best` gives them.
    """
    picture = enlarged(image)[0].copy()
    lines = [f"{action['score']:.2f}  {action['class']}" for action in actions]
    scale = max(picture.shape[:2]) / 800
    widest = max(cv2.getTextSize(line, _FONT, scale, 1)[0][0] for line in lines)
    # Long names get smaller letters.
    fit = min(1.0, (picture.shape[1] - 2 * _MARGIN) / widest)
    scale, widest = scale * fit, round(widest * fit)
    step = round(38 * scale)
    box = picture[: step * len(lines) + _MARGIN, : widest + 2 * _MARGIN]
    box[:] = np.rint(_GLASS * box + (1 - _GLASS) * np.array(_BOX))
    for row, line in enumerate(lines, start=1):
        origin = (_MARGIN, row * step)
        cv2.putText(picture, line, origin, _FONT, scale, _TEXT, max(1, round(1.6 * scale)), cv2.LINE_AA)
    return picture
