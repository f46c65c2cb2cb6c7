"""The names of WS-DAN's classifier and head; mmpretrain is imported when a config uses one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attn_mm.registry import MODELS

if TYPE_CHECKING:
    from attn_mm.models.wsdan_classifier import WSDAN
    from attn_mm.models.wsdan_cls_head import WSDANHead


@MODELS.register_module(name="WSDAN")
def wsdan(**options) -> WSDAN:
    """Build :class:`attn_mm.models.wsdan_classifier.WSDAN`, which says what ``options`` there are."""
    from attn_mm.models.wsdan_classifier import WSDAN

    return WSDAN(**options)


@MODELS.register_module(name="WSDANHead")
def wsdan_head(**options) -> WSDANHead:
    """Build :class:`attn_mm.models.wsdan_cls_head.WSDANHead`, which says what ``options`` there are."""
    from attn_mm.models.wsdan_cls_head import WSDANHead

    return WSDANHead(**options)
