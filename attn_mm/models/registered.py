"""Everything that configs can name in the scope ``attn_mm``; importing this registers it."""

from attn_mm.models import grafts, lazy
from attn_mm.models.attn_backbone import attn_backbone, tdaf
from attn_mm.models.attn_parts import attn_head, attn_neck
from attn_mm.models.backbones.hara_resnet3d import hara_resnet3d
from attn_mm.models.backbones.mobilenet_v1 import MobileNetV1
from attn_mm.models.backbones.preact_resnet import PreActResNet
from attn_mm.models.backbones.vgg_att import VGG, VGGGAP, VGGPAN, VGGAtt
from attn_mm.models.backbones.wide_resnet import WideResNet
from attn_mm.models.deployed import deployed
from attn_mm.models.inflated import inflated
from attn_mm.models.layers import CONVS, FOREIGN, NORMS, PLUGINS
from attn_mm.models.necks.attn_fpn import attn_fpn
from attn_mm.models.necks.pointwise_pooling import PointwisePooling
from attn_mm.models.necks.pooled_concat import PooledConcat
from attn_mm.registry import MODELS

__all__ = [
    "VGG",
    "VGGGAP",
    "VGGPAN",
    "MobileNetV1",
    "PointwisePooling",
    "PooledConcat",
    "PreActResNet",
    "VGGAtt",
    "WideResNet",
    "attn_backbone",
    "attn_fpn",
    "attn_head",
    "attn_neck",
    "deployed",
    "grafts",
    "hara_resnet3d",
    "inflated",
    "lazy",
    "tdaf",
]

for _layer in (*PLUGINS, *FOREIGN, *CONVS, *NORMS):
    MODELS.register_module(module=_layer)
