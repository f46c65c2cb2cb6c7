"""mmpose's circles without the conversion of an array to a number that NumPy 2.4 refuses."""

import warnings

import numpy as np
import pytest

pytest.importorskip("mmpose")


@pytest.mark.parametrize(
    ("backend", "radius"),
    [
        ("opencv", 4),
        ("opencv", np.array([4])),
        ("opencv", np.float64(4)),
        ("matplotlib", np.array([4])),
    ],
)
def test_circles(backend, radius):
    from mmpose.visualization import PoseLocalVisualizer

    visualizer = PoseLocalVisualizer(backend=backend)
    visualizer.set_image(np.zeros((40, 40, 3), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        visualizer.draw_circles(np.array([20.0, 12.0]), radius, face_colors=(255, 0, 0), line_widths=radius)
    rows, columns = visualizer.get_image()[..., 0].nonzero()
    # Matplotlib measures radii in points, of which there are fewer than pixels.
    reach = 4 if backend == "opencv" else 2
    assert (rows.min(), rows.max()) == (12 - reach, 12 + reach)
    assert (columns.min(), columns.max()) == (20 - reach, 20 + reach)
