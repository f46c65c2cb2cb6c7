"""Write the page: ``index.html`` with its pictures and data beside it, and ``attention.json``.

A browser doesn't let a ``file://`` page fetch data, only load scripts. So the data are scripts, one per
picture, which the page loads on demand.
"""

from __future__ import annotations

import base64
import json
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import jinja2
import numpy as np

from attn_mm.datasets.media import write_image
from attn_mm.errors import readable
from attn_mm.layers.recording import AttentionKind
from attn_mm.maps.colours import COLOURS, colours
from attn_mm.maps.limits import hardly_varies
from attn_mm.maps.overlay import MIN_SPAN
from attn_mm.maps.panels import Panel, rank
from attn_mm.maps.values import BINS, histogram, packed, reduced, summarise
from attn_mm.utils.files import write_atomically

# Cells a side of the maps on the page: finer ones are averaged. Their figures are those of all cells.
MAX_CELLS = 96
MAX_PICTURE, MAX_FOUND, THUMB = 640, 960, 96
# Longer lists help nobody; the JSON file has all.
MAX_OBJECTS = 12
_PAGE = "page.html"
_PARTS = (_PAGE, "page.css", "page.js")
INDEX, SUMMARY, FOLDERS = "index.html", "attention.json", ("pictures", "data")


@dataclass
class Shown:
    """What the network saw of a picture, and what it attended to there.

    Attributes:
        label: name of the view, such as "person 1".
        picture: uint8 BGR.
        valid: see :class:`attn_mm.frameworks.prediction.View`.
        panels: one for each attention.
    """

    label: str
    picture: np.ndarray
    valid: tuple[float, float]
    panels: list[Panel]


class Page(AbstractContextManager):
    """Collects pictures, and writes the page when the work ends, even after an error.

    Args:
        out: an existing folder with ``FOLDERS`` in it.
        title: title of the page.
        about: facts, ``{name: value}``, shown at the top of the page and of the JSON file.
        colours: name of the colour scale that the page begins with.
    """

    def __init__(self, out: Path, title: str, about: dict[str, str], colours: str = COLOURS[0]) -> None:
        self.out, self.title, self.about, self.colours = out, title, about, colours
        self.items: list[dict] = []
        self.skipped: list[str] = []
        self._kinds: dict[AttentionKind, int] = {}
        self._records: list[dict] = []
        self._frames = 0

    def add(
        self,
        name: str,
        found: np.ndarray,
        objects: list[dict],
        views: list[Shown],
        frame: int | None = None,
        record: dict | None = None,
    ) -> None:
        """Add a picture, or the next frame of a video.

        Args:
            name: file name; consecutive frames of the same name form a video.
            found: the picture with the predictions drawn on it, uint8 BGR.
            objects: the predictions, ``{"name", "score"}``, best first.
            views: what the network saw.
            frame: number of the frame in the video.
            record: additional entries for the JSON file.
        """
        if frame is None or not self.items or self.items[-1]["name"] != name:
            self.items.append(
                {"name": name, "thumb": _embedded(_at_most(found, THUMB), 80), "frames": [], "scales": {}}
            )
        item, stem = self.items[-1], f"{self._frames:05d}"
        self._frames += 1
        write_image(self.out / f"pictures/{stem}.jpg", _at_most(found, MAX_FOUND))
        shown = []
        for view in views:
            shown.append(
                {
                    "label": view.label,
                    # Inside the data: a page may not read a picture's file, so it could not export it.
                    "picture": _embedded(_at_most(view.picture, MAX_PICTURE), 92),
                    "size": list(view.picture.shape[:2]),
                    "valid": list(view.valid),
                    "panels": [self._panel(panel, item["scales"]) for panel in sorted(view.panels, key=rank)],
                }
            )
        content = {
            "found": f"pictures/{stem}.jpg",
            "objects": objects[:MAX_OBJECTS],
            "total": len(objects),
            "views": shown,
        }
        file = f"data/{stem}.js"
        write_atomically(self.out / file, f"addFrame({json.dumps(file)}, {json.dumps(content)});\n")
        item["frames"].append({"file": file, "index": frame or 0})
        where = {"file": name} if frame is None else {"file": name, "frame": frame}
        attention = [
            {"view": view.label, "maps": [_described(panel) for panel in view.panels]} for view in views
        ]
        self._records.append({**where, **(record or {}), "attention": attention})

    def _panel(self, panel: Panel, scales: dict[str, list[float]]) -> dict:
        """Convert a panel for the page; the item's panels of the same key share one range of values."""
        kind = self._kinds.setdefault(panel.kind, len(self._kinds))
        figures = summarise(panel.values)
        low, high = scales.get(panel.key, (figures["min"], figures["max"]))
        scales[panel.key] = [min(low, figures["min"]), max(high, figures["max"])]
        about = {
            "kind": kind,
            "key": panel.key,
            "title": panel.title,
            "layer": panel.layer,
            "place": panel.place,
            "signed": panel.signed,
            "note": panel.note,
            "score": panel.score,
            "figures": figures,
            "flat": hardly_varies(panel.kind, figures["min"], figures["max"]),
            "full": list(panel.values.shape),
        }
        if panel.kind.over == "positions":
            return {**about, "map": packed(reduced(panel.values, MAX_CELLS))}
        bounds = panel.kind.bounds
        assert bounds is not None, "values over channels or weights have bounds"
        return {**about, "bounds": list(bounds), "counts": histogram(panel.values, bounds, BINS)}

    def __exit__(self, kind, *_) -> None:
        if not self.items:
            return
        write_atomically(self.out / SUMMARY, json.dumps(self._summary(), indent=1) + "\n")
        write_atomically(self.out / INDEX, self._html())
        if kind:
            print(f"ended early: {self.out / INDEX} shows the results so far", file=sys.stderr)

    def _summary(self) -> dict:
        kinds = {kind.name: {"paper": kind.paper, "meaning": kind.meaning} for kind in self._kinds}
        return {**self.about, "kinds": kinds, "results": self._records, "skipped": self.skipped}

    def _html(self) -> str:
        kinds = [
            {key: getattr(kind, key) for key in ("name", "paper", "meaning", "over", "bounds")}
            for kind in self._kinds
        ]
        manifest = {
            "about": [readable(f"{name} {what}") for name, what in self.about.items()],
            "kinds": kinds,
            "items": self.items,
            "colours": {name: _table(name) for name in COLOURS},
            "first_colours": self.colours,
            "min_span": MIN_SPAN,
        }
        room = files(__package__)
        own = {name: room.joinpath(name).read_text(encoding="utf-8") for name in _PARTS}
        page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(own[_PAGE])
        return page.render(
            title=readable(self.title),
            style=own["page.css"],
            script=own["page.js"],
            cells=MAX_CELLS,
            colours=COLOURS,
            manifest=manifest,
        )


def _table(scale: str) -> str:
    """The 256 colours of a scale, RGB, in base64."""
    table = np.ascontiguousarray(colours(np.linspace(0, 1, 256)[None], scale)[0, :, ::-1])
    return base64.b64encode(table.tobytes()).decode("ascii")


def _at_most(picture: np.ndarray, side: int) -> np.ndarray:
    zoom = side / max(picture.shape[:2])
    if zoom >= 1:
        return picture
    size = [max(1, round(zoom * length)) for length in picture.shape[1::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _embedded(picture: np.ndarray, quality: int) -> str:
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii")


def _described(panel: Panel) -> dict:
    figures = {name: float(f"{value:.6g}") for name, value in summarise(panel.values).items()}
    return {
        "kind": panel.kind.name,
        "layer": panel.layer,
        **panel.place,
        **({"score": panel.score} if panel.score else {}),
        "size": list(panel.values.shape),
        **figures,
    }
