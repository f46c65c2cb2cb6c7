"""What configs name, registered in the scope ``attn_mm``."""

from attn_mm.models import norms
from attn_mm.models.tdaf import tdaf

__all__ = ["norms", "tdaf"]
