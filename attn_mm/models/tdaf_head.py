"""The name of the pose head; mmpose is imported when a config uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attn_mm.errors import ConfigError
from attn_mm.models.options import check_options
from attn_mm.registry import MODELS

if TYPE_CHECKING:
    from attn_mm.models.tdaf_heatmap_head import TDAFHeatmapHead


@MODELS.register_module(name="TDAFHeatmapHead")
def tdaf_head(**options) -> TDAFHeatmapHead:
    """Build :class:`attn_mm.models.tdaf_heatmap_head.TDAFHeatmapHead`, which says what ``options`` there are.

    Raises:
        ConfigError: an option is unknown or out of its range.
    """
    from mmpose.models.heads import HeatmapHead

    from attn_mm.models.tdaf_heatmap_head import TDAFHeatmapHead

    try:
        check_options(options, [TDAFHeatmapHead, HeatmapHead], "heatmap_head")
        return TDAFHeatmapHead(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"attn_mm.TDAFHeatmapHead: {error}") from error
