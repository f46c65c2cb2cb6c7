"""Names of the files that are written for images."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from attn_mm.datasets.media import write_image
from attn_mm.frameworks.prediction import Prediction
from attn_mm.inference.predictions import Predictions
from attn_mm.inference.run_images import run_images
from attn_mm.maps.sheet import Sheet


@pytest.mark.parametrize(
    ("suffix", "names"),
    [(None, ["a.jpg", "a.png", "b.png"]), (".svg", ["a.jpg.svg", "a.png.svg", "b.svg"])],
)
def test_no_sheet_overwrites_another(tmp_path, suffix, names):
    picture = np.zeros((8, 8, 3), np.uint8)
    paths = [tmp_path / name for name in ("a.jpg", "a.png", "b.png")]
    for path in paths:
        write_image(path, picture)
    (tmp_path / "out/attention").mkdir(parents=True)

    def sheets(view, name):
        sheet = Sheet(20)
        sheet.picture(0, 0, picture)
        return sheet

    sheets.suffix, sheets.figure = suffix, None
    prediction = Prediction([], picture, [SimpleNamespace(place=None)])
    run_images(paths, Predictions(tmp_path / "out", {}), lambda *_: prediction, sheets)
    assert sorted(path.name for path in (tmp_path / "out/attention").iterdir()) == names
