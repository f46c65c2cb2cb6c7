"""``--demo``: a config on generated images or videos, small and short enough for a CPU.

The model stays as configured, but for what the data decide: the number of classes and the sizes
that are made for larger inputs. It starts from scratch, with nothing frozen.
"""

from __future__ import annotations

from collections.abc import Callable

from mmengine.config import Config

from attn_mm.errors import UserError
from attn_mm.frameworks.mmaction import demo as action
from attn_mm.frameworks.mmdet import demo as detection
from attn_mm.frameworks.mmpose import demo as pose
from attn_mm.frameworks.mmpretrain import demo as classification
from attn_mm.frameworks.mmpretrain import multilabel_demo as multilabel


def _classifier_to_demo(cfg: Config) -> None:
    kind = multilabel if multilabel.is_multilabel(cfg) else classification
    kind.to_demo(cfg)


# By default_scope, the name under which a framework's configs are known.
DEMOS: dict[str, Callable[[Config], None]] = {
    "mmdet": detection.to_demo,
    "mmpose": pose.to_demo,
    "mmaction": action.to_demo,
    "mmpretrain": _classifier_to_demo,
}


def to_demo(cfg: Config) -> None:
    """Turn a config into its demo, in place.

    Raises:
        UserError: there is no demo for such a config.
    """
    scope = cfg.get("default_scope")
    if scope not in DEMOS:
        *others, last = DEMOS
        known = f"{', '.join(others)} and {last}"
        raise UserError(f"--demo works on configs of {known}; {cfg.filename} is for {scope}")
    DEMOS[scope](cfg)
