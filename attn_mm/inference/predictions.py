"""What inference finds: ``predictions.json``."""

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
    """What is found; ``predictions.json`` as soon as the work ends, be it with an error.

    Args:
        out: the output folder.
        legend: what the numbers in the objects stand for, of :meth:`Framework.legend`.
        about: what the file says first.

    Attributes:
        records: of each image, frame or video.
        skipped: names of the files that can't be read.
    """

    def __init__(self, out: Path, legend: dict, **about) -> None:
        self.out = out
        self.records: list[dict] = []
        self.skipped: list[str] = []
        self._about = {**about, **legend}

    @property
    def extent(self) -> str:
        """How many images, frames or videos there are."""
        first = self.records[0] if self.records else {}
        kind = "video" if "actions" in first else "frame" if "frame" in first else "image"
        return counted(len(self.records), kind)

    def add(self, image: np.ndarray, prediction: Prediction, **where) -> None:
        """Keep the objects found in an image or frame."""
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
