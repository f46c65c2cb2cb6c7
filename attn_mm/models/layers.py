"""Register the layers for configs: as plugins, grafts, ``conv_cfg`` and ``norm_cfg``."""

from attn_mm.layers import CBAM, ECA, FCA, SE, TAM, AAConv2d, AWConv2d, AWConv3d, MFBN2d, MFBN3d
from attn_mm.registry import MODELS

PLUGINS = (SE, CBAM, ECA, FCA, TAM)
"""Layers that keep their input's shape: use them as grafts after a unit of a block, or as mmdet plugins."""

CONVS = (AAConv2d, AWConv2d, AWConv3d)

NORMS = (MFBN2d, MFBN3d)
"""For ``norm_cfg=dict(type="attn_mm.MFBN2d", num_flows=3)``."""

for _layer in (*PLUGINS, *CONVS, *NORMS):
    MODELS.register_module(module=_layer)
