"""Draw the classes of pixels over an image, with a legend of their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from attn_mm.maps.overlay import GAP, PAPER, enlarged, write_text

OPACITY = 0.55
BORDER = (255, 255, 255)
# Of the legend: a row's height, a colour's side, the most entries; in pixels.
ROW, SWATCH, MOST = 24, 14, 18
TEXT_SIZE = 0.5


def colours_of(dataset_meta: dict) -> list[list[int]]:
    """A colour for each class, RGB: the data set's own, or the random ones of mmsegmentation."""
    palette = dataset_meta.get("palette")
    if isinstance(palette, (list, tuple)) and len(palette) >= len(dataset_meta["classes"]):
        return [list(colour) for colour in palette]
    return np.random.RandomState(42).randint(0, 255, (len(dataset_meta["classes"]), 3)).tolist()


def class_map_drawer(dataset_meta: dict) -> Callable[[np.ndarray, np.ndarray, Sequence[int]], np.ndarray]:
    """A function from an image, uint8, BGR, the classes of its pixels and those to draw, to a picture.

    The legend below the image names the largest classes. All pictures of one size of image have one size.

    Args:
        dataset_meta: the model's, with the names and colours of the classes.
    """
    classes = dataset_meta["classes"]
    colours = np.array(colours_of(dataset_meta), np.uint8)[:, ::-1]

    def draw(image: np.ndarray, labels: np.ndarray, drawn: Sequence[int]) -> np.ndarray:
        picture, _ = enlarged(image)
        size = picture.shape[1::-1]
        areas = {label: int((labels == label).sum()) for label in drawn}
        labels = cv2.resize(labels.astype(np.uint16), size, interpolation=cv2.INTER_NEAREST)
        shown = np.isin(labels, list(drawn))
        mixed = np.rint(OPACITY * colours[labels] + (1 - OPACITY) * picture).astype(np.uint8)
        picture = np.where(shown[..., None], mixed, picture)
        picture[_borders(labels)] = BORDER
        largest = sorted(areas, key=lambda label: -areas[label])
        return np.vstack([picture, _legend(size[0], classes, colours, largest)])

    return draw


def _borders(labels: np.ndarray) -> np.ndarray:
    """The pixels whose right or lower neighbour is of another class."""
    border = np.zeros(labels.shape, bool)
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    border[:-1] |= labels[:-1] != labels[1:]
    return border


def _legend(width: int, classes: Sequence[str], colours: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """The colours and names of classes on white, ``width`` pixels wide; its height is that of all classes."""
    text_width = max(cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, TEXT_SIZE, 1)[0][0] for name in classes)
    cell = SWATCH + text_width + 3 * GAP
    columns = max(1, (width - GAP) // cell)
    entries = min(len(classes), MOST)
    rows = -(-entries // columns)
    legend = np.full((rows * ROW + GAP, width, 3), PAPER, np.uint8)
    if len(labels) > entries:
        labels = labels[: entries - 1]
        _write(legend, entries - 1, columns, cell, "...", None)
    for place, label in enumerate(labels):
        _write(legend, place, columns, cell, classes[label], colours[label])
    return legend


def _write(
    legend: np.ndarray, place: int, columns: int, cell: int, text: str, colour: np.ndarray | None
) -> None:
    row, column = divmod(place, columns)
    x, y = GAP + column * cell, GAP // 2 + row * ROW
    top = y + (ROW - SWATCH) // 2
    if colour is not None:
        legend[top : top + SWATCH, x : x + SWATCH] = colour
    write_text(legend, text, (x + SWATCH + GAP, top + SWATCH - 2), TEXT_SIZE)
