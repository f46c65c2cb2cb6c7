"""The name of the attention head; mmpretrain is imported when a config uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attn_mm.registry import MODELS

if TYPE_CHECKING:
    from attn_mm.models.ltpa_cls_head import LTPAHead


@MODELS.register_module(name="LTPAHead")
def ltpa_head(**options) -> LTPAHead:
    """Build :class:`attn_mm.models.ltpa_cls_head.LTPAHead`, which says what ``options`` there are."""
    from attn_mm.models.ltpa_cls_head import LTPAHead

    return LTPAHead(**options)
