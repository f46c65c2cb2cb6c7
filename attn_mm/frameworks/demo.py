"""``--demo``: a config on generated images or videos, small and short enough for a CPU.

The model stays as configured, except for the number of classes and for sizes made for larger inputs. It
trains from scratch, with nothing frozen.
"""

from __future__ import annotations

from mmengine.config import Config

from attn_mm.frameworks import framework_of


def to_demo(cfg: Config) -> None:
    """Turn a config into its demo, in place.

    Raises:
        UserError: there is no demo for such a config.
    """
    framework_of(cfg, "--demo").demo(cfg)
