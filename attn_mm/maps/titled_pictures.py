"""Draw rows of pictures with titles in one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attn_mm.maps.sheet import LINE, Sheet, wrapped, zoomed

GAP = 8
# Lines of a title, at most.
_LINES = 2


def titled_pictures(rows: Sequence[Sequence[tuple[str, np.ndarray]]], side: int) -> Sheet:
    """Draw rows of pictures, each below its title.

    Args:
        rows: title and picture, uint8 BGR, of each place.
        side: pixels of a picture's longer side on the sheet.
    """
    sheet, top = Sheet(0), 0
    for row in rows:
        titles = [wrapped(title, side, _LINES) for title, _ in row]
        below = top + LINE * max(len(lines) for lines in titles)
        for column, (lines, (_, picture)) in enumerate(zip(titles, row)):
            left = column * (side + GAP)
            sheet.lines(left, below - LINE * len(lines), lines)
            sheet.picture(left, below + 2, zoomed(picture, side / max(picture.shape[:2])))
        top = sheet.height + GAP
    return sheet
