"""What configs name, registered in the scope ``attn_mm``."""

from attn_mm.models import grafts, layers, norms
from attn_mm.models.attn_backbone import attn_backbone
from attn_mm.models.tdaf import tdaf

__all__ = ["attn_backbone", "grafts", "layers", "norms", "tdaf"]
