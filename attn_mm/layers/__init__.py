"""The attention mathematics in plain torch: usable in any network, without OpenMMLab."""

from attn_mm.layers.anar import ANAR
from attn_mm.layers.flows import flow
from attn_mm.layers.mfbn import MFBN, MFBN2d, MFBN3d, MFSyncBN, convert_multi_flow
from attn_mm.layers.r2dns import R2DNS, r2dns

__all__ = [
    "ANAR",
    "MFBN",
    "R2DNS",
    "MFBN2d",
    "MFBN3d",
    "MFSyncBN",
    "convert_multi_flow",
    "flow",
    "r2dns",
]
