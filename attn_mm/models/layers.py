"""The layers by name: as plugins, as grafts, and as ``conv_cfg``."""

from attn_mm.layers import CBAM, ECA, FCA, SE, TAM, AAConv2d, AWConv2d, AWConv3d
from attn_mm.registry import MODELS

GATES = (SE, CBAM, ECA, FCA, TAM)
"""Layers that keep their input's shape: they stand behind a unit of a block, or in mmdet's plugins."""

CONVS = (AAConv2d, AWConv2d, AWConv3d)

for _layer in (*GATES, *CONVS):
    MODELS.register_module(module=_layer)
