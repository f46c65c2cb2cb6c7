"""Rows of pictures with titles: each picture lies below its title, and titles stay apart."""

from __future__ import annotations

import numpy as np

from attn_mm.maps.titled_pictures import GAP, titled_pictures


def test_pictures_and_titles_stand_in_rows():
    pictures = [np.full((30, 60, 3), shade, np.uint8) for shade in (40, 90, 140)]
    rows = [
        [("a title of several words that takes lines", pictures[0]), ("b", pictures[1])],
        [("c", pictures[2])],
    ]
    sheet = titled_pictures(rows, 120)
    pixels = sheet.pixels()
    at = [np.argwhere((pixels == shade).all(axis=2)) for shade in (40, 90, 140)]
    for found in at:
        assert np.ptp(found[:, 0]) + 1 >= 60 and np.ptp(found[:, 1]) + 1 >= 120
    texts = sheet._figure().axes[0].texts
    boxes = [text.get_window_extent() for text in texts]
    assert [text.get_text() for text in texts][-2:] == ["b", "c"]
    assert all(box.width <= 120 + GAP for box in boxes)
    assert not any(
        one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[i + 1 :] if one.x0 != other.x0
    )
