"""Networks of torchvision and timm that the table of what can be grafted onto what is made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import nn


class TorchNetwork(NamedTuple):
    """A network without weights.

    Attributes:
        library: ``'torchvision'`` or ``'timm'``.
        name: what ``torchvision.models.get_model`` or ``timm.create_model`` calls it.
        after: pattern over the names of modules behind which a layer is put.
        options: of the network.
        part: the part of the network that is grafted onto, such as a detector's backbone.
        size: the smallest input that is tried, ``(H, W)`` or ``(T, H, W)``.
    """

    library: str
    name: str
    after: str
    options: Mapping[str, Any] = MappingProxyType({})
    part: str = ""
    size: Sequence[int] = (64, 64)

    @property
    def title(self) -> str:
        """The name with its part and what tells it from others of this name."""
        features = ", features_only" if self.options.get("features_only") else ""
        return f"{self.name}{features}{'.' * bool(self.part)}{self.part}"

    def build(self) -> nn.Module:
        """Build the network, or its part."""
        options = dict(self.options)
        if self.library == "timm":
            net = import_module("timm").create_model(self.name, **options)
        else:
            kind = import_module("torchvision.models")
            if self.part:
                options |= dict(weights=None, weights_backbone=None)
            net = kind.get_model(self.name, **options)
        return net.get_submodule(self.part)


def _torchvision(name: str, after: str, **fields: Any) -> TorchNetwork:
    return TorchNetwork("torchvision", name, after, **fields)


def _timm(name: str, after: str, **options: Any) -> TorchNetwork:
    return TorchNetwork("timm", name, after, options)


_CLIP = (8, 64, 64)

TORCHVISION = (
    _torchvision("alexnet", "features.10"),
    _torchvision("convnext_tiny", "features.7.*"),
    _torchvision("convnext_small", "features.7.*"),
    _torchvision("densenet121", "features.denseblock4"),
    _torchvision("densenet169", "features.denseblock4"),
    _torchvision("efficientnet_b0", "features.[67].*"),
    _torchvision("efficientnet_b3", "features.[67].*"),
    _torchvision("efficientnet_v2_s", "features.[56].*"),
    _torchvision("googlenet", "inception5?", options=dict(aux_logits=False, init_weights=False)),
    _torchvision("maxvit_t", "blocks.3"),
    _torchvision("mnasnet0_5", "layers.1[23].*"),
    _torchvision("mnasnet1_0", "layers.1[23].*"),
    _torchvision("mobilenet_v2", "features.1[567]"),
    _torchvision("mobilenet_v3_small", "features.*.block"),
    _torchvision("mobilenet_v3_large", "features.1[345]"),
    _torchvision("regnet_x_400mf", "trunk_output.block4.*"),
    _torchvision("regnet_y_400mf", "trunk_output.block4.*"),
    _torchvision("regnet_y_800mf", "trunk_output.block[34].*"),
    _torchvision("resnet18", "layer*"),
    _torchvision("resnet50", "layer4.*"),
    _torchvision("resnext50_32x4d", "layer*.*.conv2"),
    _torchvision("shufflenet_v2_x0_5", "stage*"),
    _torchvision("shufflenet_v2_x1_0", "stage4.*"),
    _torchvision("squeezenet1_1", "features.1[012]"),
    _torchvision("swin_t", "features.[0246]"),
    _torchvision("vgg11", "features.*"),
    _torchvision("vgg16_bn", "features.4[03]"),
    _torchvision("vit_b_16", "conv_proj", size=(224, 224)),
    _torchvision("wide_resnet50_2", "layer4.*.conv2"),
    _torchvision("mc3_18", "layer4.*", size=_CLIP),
    _torchvision("r2plus1d_18", "layer4.*", size=_CLIP),
    _torchvision("r3d_18", "layer4.*", size=_CLIP),
    _torchvision("s3d", "features.1[345]", size=(16, 224, 224)),
    _torchvision("mvit_v2_s", "conv_proj", size=(16, 224, 224)),
    _torchvision("fasterrcnn_resnet50_fpn", "body.layer4", part="backbone"),
    _torchvision("fasterrcnn_mobilenet_v3_large_fpn", "fpn.layer_blocks.*", part="backbone"),
    _torchvision("retinanet_resnet50_fpn", "fpn.layer_blocks.*", part="backbone"),
    _torchvision("ssdlite320_mobilenet_v3_large", "features.*", part="backbone"),
    _torchvision("deeplabv3_resnet50", "layer4.*", part="backbone"),
    _torchvision("lraspp_mobilenet_v3_large", "16", part="backbone"),
)
"""40 networks of torchvision 0.26."""

TIMM = (
    _timm("resnet18", "layer*"),
    _timm("resnet26d", "layer4.*"),
    _timm("resnet50", "layer4.*", drop_path_rate=0.1, drop_block_rate=0.1),
    _timm("resnetblur18", "layer*.*.conv2"),
    _timm("resnetaa50d", "layer4.*"),
    _timm("resnext50_32x4d", "layer4.*.conv2"),
    _timm("seresnet18", "layer4.*"),
    _timm("ecaresnet26t", "layer4.*"),
    _timm("res2net50_26w_4s", "layer4.*"),
    _timm("resnest14d", "layer4.*"),
    _timm("skresnet18", "layer4.*"),
    _timm("resnetv2_50", "stages.3.blocks.*"),
    _timm("regnetx_002", "s4.*"),
    _timm("regnety_002", "s4.*"),
    _timm("regnetz_005", "s4.*"),
    _timm("gernet_s", "stages.*"),
    _timm("efficientnet_b0", "blocks.[56].*", drop_path_rate=0.2),
    _timm("efficientnet_es", "blocks.[45].*"),
    _timm("tf_efficientnetv2_b0", "blocks.5.*"),
    _timm("mixnet_s", "blocks.5.*"),
    _timm("mnasnet_100", "blocks.5.*"),
    _timm("mobilenetv2_100", "blocks.5.*"),
    _timm("mobilenetv3_small_100", "blocks.[45].*"),
    _timm("mobilenetv4_conv_small", "blocks.[34]"),
    _timm("convnext_atto", "stages.*.downsample"),
    _timm("convnext_femto", "stages.3", drop_path_rate=0.1),
    _timm("convnextv2_atto", "stages.*"),
    _timm("cspresnet50", "stages.*"),
    _timm("cspdarknet53", "stages.*.blocks.*"),
    _timm("cs3darknet_s", "stages.*"),
    _timm("darknet17", "stages.*"),
    _timm("dla34", "level5"),
    _timm("dla46x_c", "level[345]"),
    _timm("dla60_res2net", "level5"),
    _timm("hrnet_w18_small", "incre_modules.*"),
    _timm("densenet121", "features.denseblock4"),
    _timm("vgg11_bn", "features.2[258]"),
    _timm("repvgg_a0", "stages.*"),
    _timm("resnet18", "layer4", features_only=True),
    _timm("efficientnet_b0", "blocks.*", features_only=True),
)
"""40 networks of timm 1.0."""
