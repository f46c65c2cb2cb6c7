"""mmdet's visualizer with labels that can be read: of one size, and inside the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmdet.visualization import DetLocalVisualizer

# Points of a label, and the share of the picture's longer side that it has at least.
_POINTS, _SHARE = 13, 1 / 44
# Of a letter of a label: its mean width over its size in points, at mmengine's 100 dots per inch.
_LETTER = 0.62 * 100 / 72


class BoxVisualizer(DetLocalVisualizer):
    """Writes all labels in one size; mmdet makes those of small boxes too small to be read."""

    def draw_texts(self, texts: Any, positions: Any, font_sizes: Any = None, **kwargs: Any) -> BoxVisualizer:
        """Draw labels; see mmengine's ``Visualizer``. ``font_sizes`` is ignored."""
        size = max(_POINTS, round(_SHARE * max(self.width, self.height)))
        places = np.array([[float(value) for value in place] for place in np.reshape(positions, (-1, 2))])
        texts = [texts] if isinstance(texts, str) else texts
        for place, text in zip(places, texts):
            # One that begins at a box near the right border would end outside.
            place[0] = max(0.0, min(place[0], self.width - _LETTER * size * len(text)))
        super().draw_texts(texts, places, font_sizes=size, **kwargs)
        return self
