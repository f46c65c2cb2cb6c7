"""The generated label maps: those of the generated shapes, in the layout that mmsegmentation reads."""

from __future__ import annotations

import cv2
import numpy as np

from attn_mm.datasets.generated import shapes
from attn_mm.datasets.generated.label_maps import CLASSES, PALETTE, make_label_maps


def test_a_label_map_has_the_visible_shapes_of_its_image(tmp_path):
    folder = make_label_maps(tmp_path, num_train=3, num_val=1, image_size=64, seed=5)
    names = (folder / "annotations/train2017.txt").read_text().split()
    assert names == [f"{number:012d}" for number in (1, 2, 3)]
    for index, name in enumerate(names):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([5, 0, index])))
        _, objects = shapes.draw_scene(rng.random, 64)
        expected = np.zeros((64, 64), np.uint8)
        for label, _, visible in objects:
            expected[visible] = CLASSES.index(shapes.CLASSES[label])
        found = cv2.imread(str(folder / f"label_maps/train2017/{name}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(found, expected)
        assert cv2.imread(str(folder / f"train2017/{name}.jpg")).shape == (64, 64, 3)
    assert CLASSES[0] == "background" and len(set(map(tuple, PALETTE))) == len(CLASSES)
