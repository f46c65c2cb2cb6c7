"""The values at the ends of maps' colour scales: shared, so that maps can be compared, or each map's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attn_mm.layers.recording import AttentionKind
from attn_mm.maps.colours import COLOURS
from attn_mm.maps.overlay import value_range
from attn_mm.maps.panels import Panel

Limits = Mapping[str, tuple[float, float]]
"""The values at the ends of the colour scales, by panel key."""

# A map that varies by a smaller share of what is possible, or of its largest value, hardly varies.
HARDLY = 0.05

SCALES = ("shared", "own")
"""Which maps have a scale in common; the first is the default."""


@dataclass(frozen=True)
class Look:
    """How maps are coloured.

    Attributes:
        colours: one of :data:`attn_mm.maps.colours.COLOURS`.
        scale: ``"shared"``, see :func:`shared_limits`, or ``"own"``, see :func:`own_limits`.
    """

    colours: str = COLOURS[0]
    scale: str = SCALES[0]

    def limits(self, panels: Sequence[Panel]) -> Limits:
        """The ends of the panels' colour scales."""
        if self.scale == "shared":
            return shared_limits(panels)
        return {panel.key: own_limits(panel) for panel in panels}


def shared_limits(panels: Sequence[Panel]) -> Limits:
    """Scales that make maps comparable.

    Values with bounds, such as gates, range over all that is possible. Others range from 0, or their minimum
    if that is negative, to the maximum of the same attention in the same layer.
    """
    limits = {}
    for panel in panels:
        alike = [p.values for p in panels if (p.kind, p.layer) == (panel.kind, panel.layer)]
        limits[panel.key] = panel.kind.bounds or _from_zero(alike)
    return limits


def own_limits(panel: Panel) -> tuple[float, float]:
    """A scale for a single map: between its extremes if its values have bounds, otherwise from 0."""
    if panel.kind.bounds is None:
        return _from_zero([panel.values])
    low, high = value_range(panel.values)
    return max(panel.kind.bounds[0], low), min(panel.kind.bounds[1], high)


def _from_zero(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    low = min(0.0, *(float(values.min()) for values in maps))
    high = max(float(values.max()) for values in maps)
    return low, high if high > low else low + 1


def hardly_varies(kind: AttentionKind, low: float, high: float) -> str:
    """Say in words that values from ``low`` to ``high`` hardly vary; an empty text if they do vary."""
    whole = max(abs(low), abs(high)) if kind.bounds is None else kind.bounds[1] - kind.bounds[0]
    varies = high - low
    if not varies:
        return "does not vary"
    if varies >= HARDLY * whole:
        return ""
    return f"varies by only {varies:.1g}" if varies >= 1e-4 else "varies by < 0.0001"
