"""Draw boxes, arrows and texts as a self-contained SVG file, for light and dark screens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LINE, PAD, TITLE_SIZE, TEXT_SIZE = 16, 8, 13, 11.5
# Mean width of a character over the font's size, in a wide sans-serif font and in its bold.
CHARACTER, BOLD = 0.59, 0.68
MARGIN = 24

_STYLE = """\
svg { --paper: #ffffff; --ink: #1f2430; --soft: #5c6474; --edge: #9aa3b2; --plain: #f2f4f8;
  --conv: #dde9fb; --conv-edge: #4a7fd0; --attn: #fde4d3; --attn-edge: #d2601a;
  --flow: #2f66bd; --mask: #cf4f12; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #15181e; --ink: #e8ebf1; --soft: #a3acbb; --edge: #6d7686; --plain: #232833;
    --conv: #1d3557; --conv-edge: #6fa3ee; --attn: #4a2a16; --attn-edge: #f0905a;
    --flow: #7fb0f5; --mask: #f5935c; }
}
text { font-family: 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif; fill: var(--ink); }
.soft { fill: var(--soft); }
.head { font-weight: 600; }
.box { stroke-width: 1.2; }
.plain { fill: var(--plain); stroke: var(--edge); }
.conv { fill: var(--conv); stroke: var(--conv-edge); }
.attn { fill: var(--attn); stroke: var(--attn-edge); }
.line { fill: none; stroke-width: 1.6; }
.to { stroke: var(--soft); }
.flow { stroke: var(--flow); }
.mask { stroke: var(--mask); }
.tip-to { fill: var(--soft); } .tip-flow { fill: var(--flow); } .tip-mask { fill: var(--mask); }
"""

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A drawn box, to connect other items with."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> Point:
        return self.x, self.y + self.height / 2

    @property
    def right(self) -> Point:
        return self.x + self.width, self.y + self.height / 2

    @property
    def top(self) -> Point:
        return self.x + self.width / 2, self.y

    @property
    def bottom(self) -> Point:
        return self.x + self.width / 2, self.y + self.height


def text_width(text: str, size: float = TEXT_SIZE, bold: bool = False) -> float:
    """Approximate width of a drawn text, in pixels."""
    return (BOLD if bold else CHARACTER) * size * len(text)


def box_size(lines: Sequence[str]) -> Point:
    """Width and height of a box with these lines, in pixels; the first line is a heading."""
    widths = [text_width(line) if i else text_width(line, TITLE_SIZE, True) for i, line in enumerate(lines)]
    return max(widths) + 2 * PAD, LINE * len(lines) + PAD


class Drawing:
    """A drawing and its extent; coordinates are in pixels, y points down."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.width = self.height = 0.0

    def box(
        self, x: float, y: float, lines: Sequence[str], kind: str = "plain", width: float | None = None
    ) -> Box:
        """Draw a box with its top left corner at ``(x, y)``; ``kind`` is plain, conv or attn."""
        own, height = box_size(lines)
        box = Box(x, y, max(own, width or 0), height)
        radius = 10 if kind == "attn" else 4
        self.items.append(
            f'<rect class="box {kind}" x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" '
            f'height="{height:.1f}" rx="{radius}"/>'
        )
        for index, line in enumerate(lines):
            baseline = y + PAD / 2 + LINE * (index + 1) - 4
            size, style = (TEXT_SIZE, "soft") if index else (TITLE_SIZE, "head")
            self.text(x + box.width / 2, baseline, line, size, style, "middle")
        self._reach(x + box.width, y + height)
        return box

    def sign(self, x: float, y: float, sign: str, kind: str = "plain") -> Box:
        """Draw an operation: a circle around ``(x, y)`` with a sign in it."""
        self.items.append(f'<circle class="box {kind}" cx="{x:.1f}" cy="{y:.1f}" r="10"/>')
        self.text(x, y + 5, sign, 15, "head", "middle")
        self._reach(x + 10, y + 10)
        return Box(x - 10, y - 10, 20, 20)

    def text(
        self, x: float, y: float, text: str, size: float = TEXT_SIZE, style: str = "", anchor: str = "start"
    ) -> None:
        """Draw a text whose baseline starts, or is centred, at ``(x, y)``."""
        self.items.append(
            f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )
        share = {"start": 1.0, "middle": 0.5, "end": 0.0}[anchor]
        self._reach(x + share * text_width(text, size, style == "head"), y + 4)

    def line(self, points: Sequence[Point], kind: str = "to", tip: bool = True) -> None:
        """Draw an arrow through the points; ``kind`` is to, flow or mask."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        end = f' marker-end="url(#tip-{kind})"' if tip else ""
        self.items.append(f'<polyline class="line {kind}" points="{path}"{end}/>')
        for x, y in points:
            self._reach(x + 4, y + 4)

    def put(self, other: Drawing, x: float, y: float) -> None:
        """Draw another drawing with its origin at ``(x, y)``."""
        self.items.append(f'<g transform="translate({x:.1f},{y:.1f})">')
        self.items += other.items
        self.items.append("</g>")
        self._reach(x + other.width, y + other.height)

    def _reach(self, x: float, y: float) -> None:
        self.width, self.height = max(self.width, x), max(self.height, y)

    def document(self, title: str) -> str:
        """Return the content of the SVG file."""
        width, height = self.width + 2 * MARGIN, self.height + 2 * MARGIN
        tips = "".join(
            f'<marker id="tip-{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'markerUnits="userSpaceOnUse" orient="auto">'
            f'<path class="tip-{kind}" d="M0,0 L8,4 L0,8 z"/></marker>'
            for kind in ("to", "flow", "mask")
        )
        items = "\n".join(self.items)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">\n<title>{escape(title)}</title>\n'
            f"<style>\n{_STYLE}</style>\n<defs>{tips}</defs>\n"
            f'<rect width="100%" height="100%" style="fill: var(--paper)"/>\n'
            f'<g transform="translate({MARGIN},{MARGIN})">\n{items}\n</g>\n</svg>\n'
        )


def stacked(panels: Sequence[tuple[str, str, Drawing]], gap: float = 34) -> Drawing:
    """Stack drawings vertically, each under its title and a line of text."""
    page = Drawing()
    y = 0.0
    for title, text, panel in panels:
        page.text(0, y + 16, title, 16, "head")
        y += 26
        if text:
            page.text(0, y + 10, text, TEXT_SIZE, "soft")
            y += 20
        page.put(panel, 0, y + 4)
        y += panel.height + gap
    return page
