"""Collect predictions and write ``predictions.json``."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from attn_mm.frameworks.prediction import Prediction
from attn_mm.utils.files import write_atomically
from attn_mm.utils.tables import counted


class Predictions(AbstractContextManager):
    """Collects predictions; writes ``predictions.json`` when the context ends, even after an error.

    Args:
        out: the output folder.
        legend: what the outputs stand for, as :meth:`Framework.legend` returns it.
        about: the first entries of the file.

    Attributes:
        records: one for each image, frame or video.
        skipped: names of the files that can't be read.
    """

    def __init__(self, out: Path, legend: dict, **about) -> None:
        self.out = out
        self.records: list[dict] = []
        self.skipped: list[str] = []
        self._about = {**about, **legend}

    @property
    def extent(self) -> str:
        """How many images, frames or videos have a record, in words."""
        first = self.records[0] if self.records else {}
        kind = "video" if "actions" in first else "frame" if "frame" in first else "image"
        return counted(len(self.records), kind)

    def add(self, image: np.ndarray, prediction: Prediction, **where) -> None:
        """Add the objects of an image or frame; ``where`` are the first entries of its record."""
        height, width = image.shape[:2]
        self.records.append({**where, "width": width, "height": height, "objects": prediction.objects})

    def __exit__(self, kind, *_) -> None:
        if not self.records:
            return
        path = self.out / "predictions.json"
        content = {**self._about, "results": self.records, "skipped": self.skipped}
        write_atomically(path, json.dumps(content, indent=1) + "\n")
        if kind:
            print(f"ended early: {path} holds what was found in {self.extent}", file=sys.stderr)
