"""mmdet's visualizer with labels that can be read: of one size, inside the picture, and apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from mmdet.visualization import DetLocalVisualizer

# Points of a label, and the share of the picture's longer side that it has at least.
_POINTS, _SHARE = 13, 1 / 44
# Of a letter of a label and of its line: pixels for a point, at mmengine's 100 dots per inch.
_LETTER, _LINE = 0.62 * 100 / 72, 1.25 * 100 / 72


class BoxVisualizer(DetLocalVisualizer):
    """Writes all labels in one size, and none over another one.

    mmdet makes those of small boxes too small to be read, and writes those of equal boxes over each other.
    """

    def set_image(self, image: np.ndarray) -> None:
        """Begin a picture, uint8 RGB."""
        super().set_image(image)
        self._taken: list[tuple[float, float, float]] = []

    def draw_texts(self, texts: Any, positions: Any, font_sizes: Any = None, **kwargs: Any) -> BoxVisualizer:
        """Draw labels; see mmengine's ``Visualizer``. ``font_sizes`` is ignored."""
        size = max(_POINTS, round(_SHARE * max(self.width, self.height)))
        places = np.array([[float(value) for value in place] for place in np.reshape(positions, (-1, 2))])
        texts = [texts] if isinstance(texts, str) else texts
        for place, text in zip(places, texts):
            # One that begins at a box near the right or lower border would end outside.
            width, line = _LETTER * size * len(text), _LINE * size
            place[0] = max(0.0, min(place[0], self.width - width))
            place[1] = self._free_height(place[0], place[1], width, line)
            self._taken.append((*place, width))
        super().draw_texts(texts, places, font_sizes=size, **kwargs)
        return self

    def _free_height(self, left: float, top: float, width: float, line: float) -> float:
        """The height nearest to ``top`` at which a label lies inside the picture and over no other one."""
        lowest = max(0.0, self.height - line)
        taken = [y for x, y, its_width in self._taken if left < x + its_width and x < left + width]
        # Whole pixels apart: sums of fractions could miss each other by a rounding.
        apart = math.ceil(line)
        places = [max(0.0, min(top, lowest)), *(y + way for y in taken for way in (apart, -apart))]
        free = [y for y in places if 0 <= y <= lowest and all(abs(y - other) >= line for other in taken)]
        return min(free, key=lambda y: abs(y - top), default=top)
