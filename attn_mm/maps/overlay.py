"""Draw attention masks over the image that they attend to.

It uses only NumPy and OpenCV: from an image and mask arrays it makes a picture. A network
sees an image resized and padded at the right and at the bottom;
:func:`fit_to_image` undoes both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

# So that a flat mask is shown flat, not as stretched noise.
MIN_SPAN = 0.1

OPACITY = 0.55
PANEL_SIDE = 400
STRIP = 26
# Of a panel, and of a line of text, where several images share a picture.
ROW_WIDTH, ROW_LINE = 128, 16
GAP = 8
INK, PAPER = (40, 40, 40), (255, 255, 255)


def fit_to_image(
    mask: np.ndarray, image_size: tuple[int, ...], valid: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """Interpolate a mask linearly at the centres of the pixels of an image or of a clip's frames.

    Args:
        mask: (h, w), or (t, h, w) over a clip, at any resolution.
        image_size: (height, width) of the image in pixels; (frames, height, width) for a clip.
        valid: the share of the mask's height and width, from the top left corner,
            that shows the image; the rest is the padding of the network's input.

    Returns:
        The mask on the pixels of the image, (height, width), or of the frames, (frames, height, width);
        float64.
    """
    mask = np.asarray(mask, np.float64)
    parts = (*(1.0,) * (mask.ndim - 2), *valid)
    for axis, (pixels, part) in enumerate(zip(image_size, parts, strict=True)):
        cells = mask.shape[axis]
        centres = (np.arange(pixels) + 0.5) * (cells * part / pixels) - 0.5
        centres = centres.clip(0, cells - 1)
        lower = np.floor(centres).astype(np.intp)
        upper = np.minimum(lower + 1, cells - 1)
        weight = (centres - lower).reshape(-1, *(1,) * (mask.ndim - 1 - axis))
        mask = mask.take(lower, axis) * (1 - weight) + mask.take(upper, axis) * weight
    return mask


def value_range(mask: np.ndarray) -> tuple[float, float]:
    """The values at the ends of the colour map: the mask's extremes, at least ``MIN_SPAN`` apart."""
    low, high = float(np.min(mask)), float(np.max(mask))
    slack = max(0.0, MIN_SPAN - (high - low)) / 2
    return low - slack, high + slack


def overlay(image: np.ndarray, mask: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Colour a grey copy of an image by a mask.

    Args:
        image: (H, W, 3) uint8 BGR.
        mask: (h, w) over the whole image.
        limits: the values at the ends of the colour map; ``None`` uses the mask's :func:`value_range`.

    Returns:
        (H, W, 3) uint8 BGR; the colours go from blue (low) over green to red (high).
    """
    low, high = limits or value_range(mask)
    level = (fit_to_image(mask, image.shape[:2]) - low) / (high - low)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None]
    return np.rint(OPACITY * colours(level) + (1 - OPACITY) * grey).astype(np.uint8)


def contact_sheet(
    image: np.ndarray,
    masks: Mapping[tuple[int, int], np.ndarray],
    limits: Mapping[tuple[int, int], tuple[float, float]] | None = None,
) -> np.ndarray:
    """Draw the masks of every stage and flow over one image.

    The image is at the left. Right of it, each row is a flow and each column a stage.
    Each panel shows the mask's name above and its colour scale below.

    Args:
        image: (H, W, 3) uint8 BGR.
        masks: ``{(stage from 0, flow from 1): (h, w)}`` over the whole image. The flow is the
            one that the mask multiplies; the flow before it makes the mask. It is 0 for masks
            outside flows, as in a classifier's head.
        limits: the values at the ends of the colour scales, by the same keys; ``None``
            uses each mask's own :func:`value_range`.

    Returns:
        The drawn picture, uint8 BGR.

    Raises:
        ValueError: there is no mask.
    """
    if not masks:
        raise ValueError("contact_sheet needs at least one mask")
    zoom = PANEL_SIDE / max(image.shape[:2])
    size = [max(1, round(zoom * side)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    stages, flows = (sorted(set(indices)) for indices in zip(*masks, strict=True))
    rows = [[_panel(small, "image")] + [None] * len(stages)]
    rows += [[None] * (1 + len(stages)) for _ in flows[1:]]
    for (stage, flow), mask in masks.items():
        ends = limits[stage, flow] if limits else value_range(mask)
        panel = _panel(overlay(small, mask, ends), _name(stage, flow), ends)
        rows[flows.index(flow)][1 + stages.index(stage)] = panel
    blank = np.full_like(rows[0][0], 255)
    grid = [np.hstack([blank if panel is None else panel for panel in row]) for row in rows]
    return cv2.copyMakeBorder(np.vstack(grid), GAP, GAP, GAP, GAP, cv2.BORDER_CONSTANT, value=PAPER)


def mask_rows(rows: Sequence[tuple[np.ndarray, Mapping[tuple[int, int], np.ndarray]]]) -> np.ndarray:
    """Draw the masks of several images: one row per image, one column per stage and flow.

    The columns of one stage form figure 3b of TDAF, the columns of one flow form figure 3c
    (https://arxiv.org/abs/2012.07248). Each mask has its own colour scale, with its limits printed below.

    Args:
        rows: each image, (H, W, 3) uint8 BGR, and its masks, see :func:`contact_sheet`. The masks of all
            images must have the same keys.

    Returns:
        The drawn picture, uint8 BGR.

    Raises:
        ValueError: there is no image or no mask, or the images' masks have different stages and flows.
    """
    keys = sorted({key for _, masks in rows for key in masks})
    if not keys or any(set(masks) != set(keys) for _, masks in rows):
        raise ValueError("mask_rows needs images with masks of the same stages and flows")
    heads = [("image", ""), *([*_name(*key).split(", "), ""][:2] for key in keys)]
    lines = []
    for image, masks in rows:
        small = row_image(image)
        cells: list[tuple[np.ndarray, Sequence[str]]] = [(small, ())]
        for key in keys:
            ends = value_range(masks[key])
            cells.append((overlay(small, masks[key], ends), [f"{ends[0]:.2f} to {ends[1]:.2f}"]))
        lines.append(cells)
    return row_picture(heads, lines)


def row_image(image: np.ndarray) -> np.ndarray:
    """Resize an image to the column width of :func:`row_picture`."""
    height = max(1, round(image.shape[0] * ROW_WIDTH / image.shape[1]))
    way = cv2.INTER_CUBIC if image.shape[1] < ROW_WIDTH else cv2.INTER_AREA
    return cv2.resize(image, (ROW_WIDTH, height), interpolation=way)


def row_picture(
    heads: Sequence[Sequence[str]], rows: Sequence[Sequence[tuple[np.ndarray, Sequence[str]]]]
) -> np.ndarray:
    """Arrange pictures in rows and columns.

    Args:
        heads: the lines of text above each column.
        rows: the pictures of each row, ``ROW_WIDTH`` wide, uint8 BGR, each with the lines of text below it.
    """
    lines = [np.hstack([_small_panel(np.full((1, ROW_WIDTH, 3), 255, np.uint8), head) for head in heads])]
    for row in rows:
        panels = [_small_panel(picture, below) for picture, below in row]
        tallest = max(panel.shape[0] for panel in panels)
        lines.append(np.hstack([_padded(panel, tallest) for panel in panels]))
    return cv2.copyMakeBorder(np.vstack(lines), GAP, GAP, GAP, GAP, cv2.BORDER_CONSTANT, value=PAPER)


def _small_panel(picture: np.ndarray, lines: Sequence[str] = ()) -> np.ndarray:
    """Draw lines of text below a picture."""
    text = np.full((ROW_LINE * len(lines), picture.shape[1], 3), 255, np.uint8)
    for index, line in enumerate(lines):
        write_text(text, line, (2, ROW_LINE * (index + 1) - 5), 0.4)
    panel = np.vstack([picture, text])
    return cv2.copyMakeBorder(panel, 2, 2, GAP // 2, GAP // 2, cv2.BORDER_CONSTANT, value=PAPER)


def _padded(panel: np.ndarray, height: int) -> np.ndarray:
    more = height - panel.shape[0]
    return cv2.copyMakeBorder(panel, 0, more, 0, 0, cv2.BORDER_CONSTANT, value=PAPER)


def _name(stage: int, flow: int) -> str:
    return f"stage {stage + 1}, flow {flow - 1} -> {flow}" if flow else f"map {stage + 1}"


def colours(level: np.ndarray) -> np.ndarray:
    """Colour levels, clipped to 0..1; returns (..., 3), uint8 BGR."""
    # The colour map's own ends are both nearly black.
    shades = np.rint(20 + 215 * level.clip(0, 1)).astype(np.uint8)
    return cv2.applyColorMap(shades, cv2.COLORMAP_TURBO)


def _panel(picture: np.ndarray, title: str, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Draw a picture with its title above and, if it has one, its colour scale below."""
    height, width = picture.shape[0], max(picture.shape[1], PANEL_SIDE // 2)
    panel = np.full((height + 2 * STRIP, width, 3), 255, np.uint8)
    panel[STRIP : STRIP + height, : picture.shape[1]] = picture
    write_text(panel, title, (2, STRIP - 8))
    if limits:
        baseline = height + 2 * STRIP - 9
        write_text(panel, f"{limits[0]:.2f}", (2, baseline))
        write_text(panel, f"{limits[1]:.2f}", (width - 40, baseline))
        scale = colours(np.linspace(0, 1, width - 96)[None].repeat(10, axis=0))
        panel[baseline - 10 : baseline, 48 : width - 48] = scale
    return cv2.copyMakeBorder(panel, GAP, GAP, GAP, GAP, cv2.BORDER_CONSTANT, value=PAPER)


def write_text(picture: np.ndarray, text: str, origin: tuple[int, int], size: float = 0.45) -> None:
    """Write ``text``, its lower left corner at ``origin`` (x, y), into a picture."""
    cv2.putText(picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA)


# Labels and lines have a fixed size in pixels: smaller images are drawn enlarged.
MIN_PICTURE_SIDE = 480


def enlarged(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Enlarge an image until it is large enough to draw on; returns it and the factor."""
    zoom = MIN_PICTURE_SIDE / max(image.shape[:2])
    if zoom <= 1:
        return image, 1.0
    return cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC), zoom
