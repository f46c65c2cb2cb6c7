"""torchvision's networks: classifiers of images and videos, and the backbones of its detectors.

The recursion of flows runs over a classifier's stages, and its pooling and its head follow once. In a network
that returns several maps a stage ends at each map.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_mm.graft.families.dense_nets import concatenated
from attn_mm.graft.families.family import Family, Split, Stage, Unit, channel_shuffle, last_layer, run_in_turn
from attn_mm.graft.families.resnets import downsampled, relu
from attn_mm.graft.families.sequences import (
    Groups,
    chain_classifier,
    classifier,
    maps,
    named_maps,
    over_channels,
    returned_layers,
    units_in_turn,
)

_MOBILE = ("expand", "depthwise", "linear")


def _conv_and_bn(block: Any) -> list[Unit]:
    last = 3 if hasattr(block, "conv3") else 2
    return [
        Unit(
            f"conv{k}",
            getattr(block, f"conv{k}"),
            getattr(block, f"bn{k}"),
            block.relu if k < last else None,
        )
        for k in range(1, last + 1)
    ]


def _video(block: Any) -> list[Unit]:
    names = ("conv1", "conv2", "conv3") if hasattr(block, "conv3") else ("conv1", "conv2")
    return units_in_turn(names, [getattr(block, name) for name in names])


def _regnet(block: Any) -> list[Unit]:
    return units_in_turn(("conv1", "conv2", "conv3"), block.f)


def _projected(block: Any, x: Tensor) -> Tensor:
    return x if block.proj is None else block.proj(x)


def _activated(block: Any, x: Tensor) -> Tensor:
    return block.activation(x)


def _mobile_v2(block: Any) -> list[Unit]:
    return units_in_turn(_MOBILE, block.conv)


def _mobile_v3(block: Any) -> list[Unit]:
    return units_in_turn(_MOBILE, block.block)


def _fused(block: Any) -> list[Unit]:
    return units_in_turn(("expand", "linear"), block.block)


def _mnas(block: Any) -> list[Unit]:
    return units_in_turn(_MOBILE, block.layers)


def _input_if_it_fits(block: Any, x: Tensor) -> Tensor | None:
    return x if block.use_res_connect else None


def _input_if_applied(block: Any, x: Tensor) -> Tensor | None:
    return x if block.apply_residual else None


def _with_stochastic_depth(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    return block.stochastic_depth(branch) + x if block.use_res_connect else branch


def _convnext(block: Any) -> list[Unit]:
    depthwise, _, norm, first, act, second, _ = block.block
    return [
        Unit("depthwise", depthwise, None, None, (partial(over_channels, norm),)),
        Unit("pointwise1", first, None, partial(over_channels, act)),
        Unit("pointwise2", second, None, None, (partial(_scaled, block),)),
    ]


def _scaled(block: Any, x: Tensor) -> Tensor:
    return block.layer_scale * x


def _always_with_stochastic_depth(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    return block.stochastic_depth(branch) + x


def _shuffle(block: Any) -> list[Unit]:
    first, *others = units_in_turn(_MOBILE, block.branch2)
    return [first if block.stride > 1 else first._replace(before=(_right,)), *others]


def _left(x: Tensor) -> Tensor:
    return x.chunk(2, dim=1)[0]


def _right(x: Tensor) -> Tensor:
    return x.chunk(2, dim=1)[1]


def _shuffled(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    rest = block.branch1(x) if block.stride > 1 else _left(x)
    return channel_shuffle(torch.cat((rest, branch), dim=1), 2)


def _dense(block: Any) -> list[Unit]:
    whole = partial(_checkpointed_first, block) if block.memory_efficient else None
    drop = (partial(_dropout, block),) if block.drop_rate > 0 else ()
    return [
        Unit("conv1", block.conv1, block.norm1, block.relu1, (), whole, norm_first=True),
        Unit("conv2", block.conv2, block.norm2, block.relu2, drop, norm_first=True),
    ]


def _checkpointed_first(block: Any, x: Tensor) -> Tensor:
    return block.call_checkpoint_bottleneck([x]) if x.requires_grad else block.bn_function([x])


def _dropout(block: Any, x: Tensor) -> Tensor:
    return F.dropout(x, block.drop_rate, block.training)


_RESIDUAL = Family(_conv_and_bn, downsampled, relu)
_RESIDUAL_3D = Family(_video, downsampled, relu)

FAMILIES: dict[str, Family] = {
    "torchvision.models.resnet.BasicBlock": _RESIDUAL,
    "torchvision.models.resnet.Bottleneck": _RESIDUAL,
    "torchvision.models.video.resnet.BasicBlock": _RESIDUAL_3D,
    "torchvision.models.video.resnet.Bottleneck": _RESIDUAL_3D,
    "torchvision.models.regnet.ResBottleneckBlock": Family(_regnet, _projected, _activated),
    "torchvision.models.mobilenetv2.InvertedResidual": Family(_mobile_v2, _input_if_it_fits),
    "torchvision.models.mobilenetv3.InvertedResidual": Family(_mobile_v3, _input_if_it_fits),
    "torchvision.models.efficientnet.MBConv": Family(_mobile_v3, join=_with_stochastic_depth),
    "torchvision.models.efficientnet.FusedMBConv": Family(_fused, join=_with_stochastic_depth),
    "torchvision.models.convnext.CNBlock": Family(_convnext, join=_always_with_stochastic_depth),
    "torchvision.models.mnasnet._InvertedResidual": Family(_mnas, _input_if_applied),
    "torchvision.models.shufflenetv2.InvertedResidual": Family(_shuffle, join=_shuffled),
    "torchvision.models.densenet._DenseLayer": Family(_dense, enter=concatenated),
}


def _resnet(net: Any) -> Groups:
    stem = [net.conv1, net.bn1, net.relu, net.maxpool]
    return [[*stem, net.layer1], [net.layer2], [net.layer3], [net.layer4]]


def _video_resnet(net: Any) -> Groups:
    return [[net.stem, net.layer1], [net.layer2], [net.layer3], [net.layer4]]


def _regnet_layers(net: Any) -> Groups:
    first, *others = net.trunk_output
    return [[net.stem, first], *([stage] for stage in others)]


def _features(net: Any) -> list[nn.Module]:
    return list(net.features)


def _mnas_layers(net: Any) -> list[nn.Module]:
    return list(net.layers)


def _shuffle_layers(net: Any) -> list[nn.Module]:
    return [net.conv1, net.maxpool, net.stage2, net.stage3, net.stage4, net.conv5]


def _pooled_fc(net: Any, x: Tensor) -> Tensor:
    return net.fc(net.avgpool(x).flatten(1))


def _pooled_classifier(net: Any, x: Tensor) -> Tensor:
    return net.classifier(net.avgpool(x).flatten(1))


def _norm_classifier(net: Any, x: Tensor) -> Tensor:
    return net.classifier(net.avgpool(x))


def _mobile_v2_head(net: Any, x: Tensor) -> Tensor:
    return net.classifier(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


def _dense_head(net: Any, x: Tensor) -> Tensor:
    return _mobile_v2_head(net, F.relu(x, inplace=True))


def _mean_classifier(net: Any, x: Tensor) -> Tensor:
    return net.classifier(x.mean([2, 3]))


def _mean_fc(net: Any, x: Tensor) -> Tensor:
    return net.fc(x.mean([2, 3]))


def _conv_classifier(net: Any, x: Tensor) -> Tensor:
    return net.classifier(x).flatten(1)


def _clip_classifier(net: Any, x: Tensor) -> Tensor:
    return net.classifier(net.avgpool(x)).mean((2, 3, 4))


# As of the other frameworks' VGGs: the published attention is behind the third, fourth and fifth pool.
def _vgg_stages(net: Any) -> list[Stage]:
    pools = [index + 1 for index, layer in enumerate(net.features) if isinstance(layer, nn.MaxPool2d)]
    groups = [list(net.features)[start:end] for start, end in zip([0, *pools[2:]], pools[2:])]
    return [*(partial(run_in_turn, group) for group in groups), partial(_pooled_classifier, net)]


def _four(net: Any) -> range:
    return range(4)


def _body(net: Any) -> Groups:
    return returned_layers(net.body)


def _pyramid(net: Any, given: tuple[Tensor, ...]) -> Any:
    return net.fpn(named_maps(net.body, given))


SPLITS: dict[str, Split] = {
    "torchvision.models.alexnet.AlexNet": chain_classifier(_features, _pooled_classifier),
    "torchvision.models.convnext.ConvNeXt": chain_classifier(_features, _norm_classifier),
    "torchvision.models.densenet.DenseNet": chain_classifier(_features, _dense_head),
    "torchvision.models.efficientnet.EfficientNet": chain_classifier(_features, _pooled_classifier),
    "torchvision.models.mnasnet.MNASNet": chain_classifier(_mnas_layers, _mean_classifier),
    "torchvision.models.mobilenetv2.MobileNetV2": chain_classifier(_features, _mobile_v2_head),
    "torchvision.models.mobilenetv3.MobileNetV3": chain_classifier(_features, _pooled_classifier),
    "torchvision.models.regnet.RegNet": classifier(_regnet_layers, _pooled_fc),
    "torchvision.models.resnet.ResNet": classifier(_resnet, _pooled_fc),
    "torchvision.models.shufflenetv2.ShuffleNetV2": chain_classifier(_shuffle_layers, _mean_fc),
    "torchvision.models.squeezenet.SqueezeNet": chain_classifier(_features, _conv_classifier),
    "torchvision.models.vgg.VGG": Split(_vgg_stages, _four, outs=last_layer, bare=True),
    "torchvision.models.video.resnet.VideoResNet": classifier(_video_resnet, _pooled_fc),
    "torchvision.models.video.s3d.S3D": chain_classifier(_features, _clip_classifier),
    "torchvision.models._utils.IntermediateLayerGetter": maps(returned_layers, named_maps),
    "torchvision.models.detection.backbone_utils.BackboneWithFPN": maps(_body, _pyramid),
}
