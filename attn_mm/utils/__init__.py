"""Helpers that the commands share, independent of any framework: configs, flags, files, tables."""

# Every command imports from here before it imports a framework.
from attn_mm.utils import upstream_warnings

__all__ = ["upstream_warnings"]
