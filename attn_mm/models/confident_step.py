"""The name of the classifier by the most confident step; mmpretrain is imported when a config uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attn_mm.registry import MODELS

if TYPE_CHECKING:
    from attn_mm.models.confident_step_classifier import ConfidentStep


@MODELS.register_module(name="ConfidentStep")
def confident_step(**options) -> ConfidentStep:
    """Build :class:`attn_mm.models.confident_step_classifier.ConfidentStep`."""
    from attn_mm.models.confident_step_classifier import ConfidentStep

    return ConfidentStep(**options)
