"""The attention mathematics in plain torch: usable in any network, without OpenMMLab."""

from attn_mm.layers.aa_conv import AAConv2d
from attn_mm.layers.anar import ANAR
from attn_mm.layers.aw_conv import AWConv2d, AWConv3d
from attn_mm.layers.bap import bilinear_attention_pooling
from attn_mm.layers.cbam import CBAM
from attn_mm.layers.eca import ECA
from attn_mm.layers.fca import FCA
from attn_mm.layers.feature_centres import FeatureCentres
from attn_mm.layers.ltpa import LearnToPayAttention, ProgressiveGate
from attn_mm.layers.mfbn import MFBN, MFBN2d, MFBN3d, MFSyncBN, convert_multi_flow
from attn_mm.layers.ops.execution import as_written, flow
from attn_mm.layers.r2dns import R2DNS, r2dns
from attn_mm.layers.se import SE
from attn_mm.layers.tam import TAM
from attn_mm.layers.td import TopDownAttention

__all__ = [
    "ANAR",
    "CBAM",
    "ECA",
    "FCA",
    "MFBN",
    "R2DNS",
    "SE",
    "TAM",
    "AAConv2d",
    "AWConv2d",
    "AWConv3d",
    "FeatureCentres",
    "LearnToPayAttention",
    "MFBN2d",
    "MFBN3d",
    "MFSyncBN",
    "ProgressiveGate",
    "TopDownAttention",
    "as_written",
    "bilinear_attention_pooling",
    "convert_multi_flow",
    "flow",
    "r2dns",
]
