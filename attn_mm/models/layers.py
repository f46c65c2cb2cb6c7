"""The layers by name: as plugins, as grafts, and as ``conv_cfg``."""

from attn_mm.layers import CBAM, ECA, FCA, SE, TAM, AAConv2d, AWConv2d, AWConv3d
from attn_mm.registry import MODELS

for _layer in (SE, CBAM, ECA, FCA, TAM, AAConv2d, AWConv2d, AWConv3d):
    MODELS.register_module(module=_layer)
