"""From which score on a finding counts."""

from __future__ import annotations

from torch import nn

from attn_mm.engine.predictors.classification import is_multilabel


def score_threshold(model: nn.Module, scope: str) -> float:
    """The least score of what a model of that ``default_scope`` finds, unless a user says another.

    Objects and persons: 0.3; labels of a multi-label classifier: 0.5; other classes have none.
    """
    if scope != "mmpretrain":
        return 0.3
    return 0.5 if is_multilabel(model) else 0.0
