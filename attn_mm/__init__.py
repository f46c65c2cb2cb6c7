"""Attention for OpenMMLab networks, grafted from the config."""

from attn_mm import compat

__version__ = "0.1.0"

compat.mend()
