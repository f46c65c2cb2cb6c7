"""What the commands share and no framework needs: configs, flags, files, progress, tables."""

# Every command imports from here before it imports a framework.
from attn_mm.utils import upstream_warnings

__all__ = ["upstream_warnings"]
