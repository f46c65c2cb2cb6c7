"""Attention for OpenMMLab networks, grafted from the config."""

from importlib.metadata import version

from attn_mm import compat

__version__ = version("attn-mm")

compat.patch()
