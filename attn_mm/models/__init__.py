"""What configs name, registered in the scope ``attn_mm``."""

from attn_mm.models import grafts, layers, norms
from attn_mm.models.attn_backbone import attn_backbone
from attn_mm.models.attn_fpn import attn_fpn
from attn_mm.models.confident_step import confident_step
from attn_mm.models.cuda_graph import cuda_graph
from attn_mm.models.deployed import deployed
from attn_mm.models.flow_pyramid import flow_pyramid
from attn_mm.models.hara_resnet3d import hara_resnet3d
from attn_mm.models.inflated import inflated
from attn_mm.models.ltpa_head import ltpa_head
from attn_mm.models.mobilenet_v1 import MobileNetV1
from attn_mm.models.multi_scale import PooledConcat, multi_scale
from attn_mm.models.preact_resnet import PreActResNet
from attn_mm.models.resnext_cifar import resnext_cifar
from attn_mm.models.tdaf import tdaf
from attn_mm.models.tdaf_head import tdaf_head
from attn_mm.models.vgg_att import VGG, VGGGAP, VGGPAN, VGGAtt
from attn_mm.models.wide_resnet import WideResNet
from attn_mm.models.wsdan import wsdan, wsdan_head

__all__ = [
    "VGG",
    "VGGGAP",
    "VGGPAN",
    "MobileNetV1",
    "PooledConcat",
    "PreActResNet",
    "VGGAtt",
    "WideResNet",
    "attn_backbone",
    "attn_fpn",
    "confident_step",
    "cuda_graph",
    "deployed",
    "flow_pyramid",
    "grafts",
    "hara_resnet3d",
    "inflated",
    "layers",
    "ltpa_head",
    "multi_scale",
    "norms",
    "resnext_cifar",
    "tdaf",
    "tdaf_head",
    "wsdan",
    "wsdan_head",
]
