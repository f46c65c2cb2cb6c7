"""The layers that configs can name: as grafts or plugins, as ``conv_cfg`` and as ``norm_cfg``."""

from attn_mm.layers import CBAM, ECA, FCA, SE, TAM, AAConv2d, AWConv2d, AWConv3d, MFBN2d, MFBN3d
from attn_mm.layers.timm_layer import TimmLayer

PLUGINS = (SE, CBAM, ECA, FCA, TAM)
"""Layers that keep their input's shape: use them as grafts at any place, or as mmdet plugins."""

FOREIGN = (TimmLayer,)
"""The same of other libraries, for images only."""

CONVS = (AAConv2d, AWConv2d, AWConv3d)

NORMS = (MFBN2d, MFBN3d)
"""For ``norm_cfg=dict(type="attn_mm.MFBN2d", num_flows=3)``."""
