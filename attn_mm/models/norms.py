"""Multi-flow norms by name, for ``norm_cfg=dict(type='attn_mm.MFBN2d', num_flows=3)``."""

from attn_mm.layers import MFBN2d, MFBN3d
from attn_mm.registry import MODELS

for _norm in (MFBN2d, MFBN3d):
    MODELS.register_module(module=_norm)
