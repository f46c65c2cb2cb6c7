"""timm's networks: classifiers, what ``features_only=True`` makes of them, and mmpretrain's wrapper.

The recursion of flows runs over a classifier's stages, and its pooling and its head follow once. In a network
that returns several maps a stage ends at each map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_mm.graft.families.dense_nets import concatenated
from attn_mm.graft.families.family import Family, Split, Stage, Unit, several
from attn_mm.graft.families.sequences import (
    Groups,
    chain_classifier,
    classifier,
    maps,
    named_maps,
    over_channels,
    returned_layers,
)

Steps = tuple[Callable[[Tensor], Tensor], ...]


def _active(*layers: Any) -> Steps:
    """Those of ``layers`` that do something: timm has identities, or None, in the place of the others."""
    idle: Any = (nn.Identity, type(None))
    return tuple(layer for layer in layers if not isinstance(layer, idle))


def _conv_norm_act(name: str, module: Any, *then: Any) -> Unit:
    """The unit that timm's ``ConvNormAct`` is; its norm includes the activation."""
    aa = getattr(module, "aa", None)
    whole = module if aa is None else None
    return Unit(name, module.conv, module.bn, None, _active(aa, *then), whole)


def _residual(block: Any) -> list[Unit]:
    count = 3 if hasattr(block, "conv3") else 2
    units = []
    for k in range(1, count + 1):
        conv, norm = getattr(block, f"conv{k}"), getattr(block, f"bn{k}")
        if k == count:
            units.append(Unit(f"conv{k}", conv, norm, None, _active(block.se)))
        elif k < count - 1:
            units.append(Unit(f"conv{k}", conv, norm, getattr(block, f"act{k}")))
        else:
            behind = _active(block.drop_block, getattr(block, f"act{k}"), block.aa)
            units.append(Unit(f"conv{k}", conv, norm, None, behind))
    return units


def _dropped(block: Any, x: Tensor) -> Tensor:
    return x if block.drop_path is None else block.drop_path(x)


def _downsampled(block: Any, x: Tensor) -> Tensor:
    return x if block.downsample is None else block.downsample(x)


def _basic_join(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    return block.act2(_dropped(block, branch) + _downsampled(block, x))


def _bottleneck_join(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    return block.act3(_dropped(block, branch) + _downsampled(block, x))


# "Res2Net: A New Multi-scale Backbone Architecture", figure 2 (https://arxiv.org/abs/1904.01169).
def _scales(block: Any, x: Tensor) -> Tensor:
    parts = torch.split(x, block.width, 1)
    outs: list[Tensor] = []
    for conv, norm, part in zip(block.convs, block.bns, parts):
        if outs and not block.is_first:
            part = outs[-1] + part
        outs.append(block.relu(norm(conv(part))))
    if block.scale > 1:
        outs.append(parts[-1] if block.pool is None else block.pool(parts[-1]))
    return torch.cat(outs, 1)


def _multi_scale(block: Any, *then: Any) -> list[Unit]:
    channels = block.conv1.out_channels, block.conv3.in_channels
    return [
        Unit("conv1", block.conv1, block.bn1, block.relu),
        several("conv2", partial(_scales, block), tuple(block.convs), channels, _active(*then)),
        Unit("conv3", block.conv3, block.bn3, None, _active(getattr(block, "se", None))),
    ]


def _res2net(block: Any) -> list[Unit]:
    return _multi_scale(block, block.drop_block)


def _relu_join(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    return block.relu(_dropped(block, branch) + _downsampled(block, x))


def _selective(block: Any) -> list[Unit]:
    """Blocks with a convolution of several kernels: each kernel has a convolution of its own."""
    units = []
    for name, module in block.named_children():
        if not name.startswith("conv"):
            continue
        if hasattr(module, "paths"):
            parts = tuple(path.conv for path in module.paths)
            units.append(several(name, module, parts, (module.in_channels, module.out_channels)))
        else:
            units.append(_conv_norm_act(name, module))
    return [*units[:-1], units[-1]._replace(then=_active(block.se))]


def _selective_join(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    return block.act(_dropped(block, branch) + _downsampled(block, x))


def _resnest(block: Any) -> list[Unit]:
    channels = block.conv1.out_channels, block.conv3.in_channels
    behind = _active(block.bn2, block.drop_block, block.act2, block.avd_last)
    return [
        Unit("conv1", block.conv1, block.bn1, block.act1, _active(block.avd_first)),
        several("conv2", block.conv2, (block.conv2.conv,), channels, behind),
        Unit("conv3", block.conv3, block.bn3, None),
    ]


# Its drop path is upstream's: on the input of the shortcut's convolution.
def _resnest_join(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    dropped = _dropped(block, x)
    return block.act3(branch + (x if block.downsample is None else block.downsample(dropped)))


def _regnet(block: Any) -> list[Unit]:
    return [
        _conv_norm_act("conv1", block.conv1),
        _conv_norm_act("conv2", block.conv2, block.se),
        _conv_norm_act("conv3", block.conv3),
    ]


def _regnet_join(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    return block.act3(_pre_join(block, x, branch))


def _preactivated(block: Any) -> list[Unit]:
    return [
        Unit("conv1", block.conv1, block.norm2, None),
        Unit("conv2", block.conv2, None, None, _active(block.se, block.norm3)),
        Unit("conv3", block.conv3, None, None),
    ]


def _first_norm(block: Any, x: Tensor) -> Tensor:
    return block.norm1(x)


def _pre_join(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    if block.downsample is None:
        return branch
    return block.drop_path(branch) + block.downsample(x)


def _conv(block: Any) -> list[Unit]:
    return [Unit("conv", block.conv, block.bn1, None, _active(block.aa))]


def _to_depth(block: Any) -> Steps:
    return _active(block.conv_s2d, block.bn_s2d)


def _separable(block: Any) -> list[Unit]:
    behind = _active(block.aa, block.se)
    return [
        Unit("depthwise", block.conv_dw, block.bn1, None, behind, before=_to_depth(block)),
        Unit("linear", block.conv_pw, block.bn2, None),
    ]


def _inverted(block: Any) -> list[Unit]:
    return [
        Unit("expand", block.conv_pw, block.bn1, None, before=_to_depth(block)),
        Unit("depthwise", block.conv_dw, block.bn2, None, _active(block.aa, block.se)),
        Unit("linear", block.conv_pwl, block.bn3, None),
    ]


def _edge(block: Any) -> list[Unit]:
    return [
        Unit("expand", block.conv_exp, block.bn1, None, _active(block.aa, block.se)),
        Unit("linear", block.conv_pwl, block.bn2, None),
    ]


def _universal(block: Any) -> list[Unit]:
    named = {
        "depthwise_start": block.dw_start,
        "expand": block.pw_exp,
        "depthwise": block.dw_mid,
        "linear": block.pw_proj,
        "depthwise_end": block.dw_end,
    }
    units = [_conv_norm_act(name, module) for name, module in named.items() if _active(module)]
    place = [unit.name for unit in units].index("linear") - 1
    units[place] = units[place]._replace(then=(*units[place].then, *_active(block.se)))
    return [*units[:-1], units[-1]._replace(then=(*units[-1].then, *_active(block.layer_scale)))]


def _skip_join(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    return block.drop_path(branch) + x if block.has_skip else branch


def _convnext(block: Any) -> list[Unit]:
    mlp = block.mlp
    layers: tuple[Any, ...] = block.norm, mlp.act, mlp.grn if hasattr(mlp, "grn") else mlp.norm
    if not block.use_conv_mlp:
        layers = tuple(partial(over_channels, layer) if _active(layer) else layer for layer in layers)
    norm, act, middle = layers
    return [
        Unit("depthwise", block.conv_dw, None, None, (norm,)),
        Unit("pointwise1", mlp.fc1, None, act, _active(mlp.drop1, middle)),
        Unit("pointwise2", mlp.fc2, None, None, (mlp.drop2, partial(_scaled, block))),
    ]


def _scaled(block: Any, x: Tensor) -> Tensor:
    return x if block.gamma is None else x.mul(block.gamma.reshape(1, -1, 1, 1))


def _shortcut_join(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    return block.drop_path(branch) + block.shortcut(x)


def _csp_bottleneck(block: Any) -> list[Unit]:
    return [
        _conv_norm_act("conv1", block.conv1),
        _conv_norm_act("conv2", block.conv2, block.attn2),
        _conv_norm_act("conv3", block.conv3, block.attn3),
    ]


def _csp_bottleneck_join(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    return block.act3(block.drop_path(branch) + x)


def _two_convs(block: Any) -> list[Unit]:
    return [_conv_norm_act("conv1", block.conv1, block.attn), _conv_norm_act("conv2", block.conv2)]


def _dropped_and_added(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    return block.drop_path(branch) + x


_BYOB = ("conv1_1x1", "conv1_kxk", "conv2_1x1", "conv2_kxk", "conv2b_kxk", "conv3_1x1")


def _byob(block: Any) -> list[Unit]:
    """The blocks of timm's "bring your own blocks" networks: attention is before the last convolution."""
    named = {name: getattr(block, name, None) for name in _BYOB}
    units = [
        _conv_norm_act(name.partition("_")[0], module) for name, module in named.items() if _active(module)
    ]
    *first, inner, last = units
    inner = inner._replace(then=(*inner.then, *_active(block.attn)))
    return [*first, inner, last._replace(then=(*last.then, *_active(block.attn_last)))]


def _byob_join(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    branch = block.drop_path(branch)
    return block.act(branch if block.shortcut is None else branch + block.shortcut(x))


def _dla(block: Any) -> list[Unit]:
    count = 3 if hasattr(block, "conv3") else 2
    return [
        Unit(
            f"conv{k}",
            getattr(block, f"conv{k}"),
            getattr(block, f"bn{k}"),
            block.relu if k < count else None,
        )
        for k in range(1, count + 1)
    ]


# A tree gives its first block another shortcut.
def _given_shortcut(block: Any, x: Tensor, shortcut: Tensor | None = None, children: Any = None) -> Tensor:
    return x if shortcut is None else shortcut


def _activated(block: Any, x: Tensor) -> Tensor:
    return block.relu(x)


def _dense(block: Any) -> list[Unit]:
    whole = partial(_checkpointed_first, block) if block.grad_checkpointing else None
    drop = (partial(_dropout, block),) if block.drop_rate > 0 else ()
    return [
        Unit("conv1", block.conv1, block.norm1, None, (), whole, norm_first=True),
        Unit("conv2", block.conv2, block.norm2, None, drop, norm_first=True),
    ]


def _checkpointed_first(block: Any, x: Tensor) -> Tensor:
    return block.call_checkpoint_bottleneck([x]) if x.requires_grad else block.bottleneck_fn([x])


def _dropout(block: Any, x: Tensor) -> Tensor:
    return F.dropout(x, block.drop_rate, block.training)


FAMILIES: dict[str, Family] = {
    "timm.models.resnet.BasicBlock": Family(_residual, join=_basic_join),
    "timm.models.resnet.Bottleneck": Family(_residual, join=_bottleneck_join),
    "timm.models.res2net.Bottle2neck": Family(_res2net, join=_relu_join),
    "timm.models.resnest.ResNestBottleneck": Family(_resnest, join=_resnest_join),
    "timm.models.sknet.SelectiveKernelBasic": Family(_selective, join=_selective_join),
    "timm.models.sknet.SelectiveKernelBottleneck": Family(_selective, join=_selective_join),
    "timm.models.regnet.Bottleneck": Family(_regnet, join=_regnet_join),
    "timm.models.regnet.PreBottleneck": Family(_preactivated, enter=_first_norm, join=_pre_join),
    "timm.models._efficientnet_blocks.ConvBnAct": Family(_conv, join=_skip_join),
    "timm.models._efficientnet_blocks.DepthwiseSeparableConv": Family(_separable, join=_skip_join),
    "timm.models._efficientnet_blocks.InvertedResidual": Family(_inverted, join=_skip_join),
    "timm.models._efficientnet_blocks.UniversalInvertedResidual": Family(_universal, join=_skip_join),
    "timm.models._efficientnet_blocks.EdgeResidual": Family(_edge, join=_skip_join),
    "timm.models.convnext.ConvNeXtBlock": Family(_convnext, join=_shortcut_join),
    "timm.models.cspnet.BottleneckBlock": Family(_csp_bottleneck, join=_csp_bottleneck_join),
    "timm.models.cspnet.DarkBlock": Family(_two_convs, join=_dropped_and_added),
    "timm.models.cspnet.EdgeBlock": Family(_two_convs, join=_dropped_and_added),
    "timm.models.byobnet.BasicBlock": Family(_byob, join=_byob_join),
    "timm.models.byobnet.BottleneckBlock": Family(_byob, join=_byob_join),
    "timm.models.byobnet.DarkBlock": Family(_byob, join=_byob_join),
    "timm.models.byobnet.EdgeBlock": Family(_byob, join=_byob_join),
    "timm.models.dla.DlaBasic": Family(_dla, _given_shortcut, _activated),
    "timm.models.dla.DlaBottleneck": Family(_dla, _given_shortcut, _activated),
    "timm.models.dla.DlaBottle2neck": Family(_multi_scale, _given_shortcut, _activated),
    "timm.models.densenet.DenseLayer": Family(_dense, enter=concatenated),
}


def _resnet(net: Any) -> Groups:
    stem = [net.conv1, net.bn1, net.act1, net.maxpool]
    return [[*stem, net.layer1], [net.layer2], [net.layer3], [net.layer4]]


def _regnet_layers(net: Any) -> Groups:
    return [[net.stem, net.s1], [net.s2], [net.s3], [net.s4, net.final_conv]]


def _efficientnet(net: Any) -> list[nn.Module]:
    return [net.conv_stem, net.bn1, *net.blocks, net.conv_head, net.bn2]


def _mobilenet_v3(net: Any) -> list[nn.Module]:
    return [net.conv_stem, net.bn1, *net.blocks]


def _convnext_layers(net: Any) -> Groups:
    first, *others, last = net.stages
    return [[net.stem, first], *([stage] for stage in others), [last, net.norm_pre]]


def _cspnet(net: Any) -> list[nn.Module]:
    return [*net.stem, *net.stages]


def _byob_layers(net: Any) -> Groups:
    first, *others, last = net.stages
    return [[net.stem, first], *([stage] for stage in others), [last, net.final_conv]]


def _dla_levels(net: Any) -> Groups:
    stem = [net.base_layer, net.level0, net.level1]
    return [[*stem, net.level2], [net.level3], [net.level4], [net.level5]]


def _features(net: Any) -> list[nn.Module]:
    return list(net.features)


def _head(net: Any, x: Tensor) -> Tensor:
    return net.forward_head(x)


def _list(net: Any, given: tuple[Tensor, ...]) -> list[Tensor]:
    return list(given)


def _efficientnet_returned(net: Any) -> Groups:
    stem = [net.conv_stem, net.bn1, *_active(getattr(net, "act1", None))]
    stages: Groups = [[]]
    for index, layers in enumerate([stem, *([block] for block in net.blocks)]):
        stages[-1] += layers
        if index in net._stage_out_idx:
            stages.append([])
    return stages[:-1]


def _inner(backbone: Any) -> Split:
    """The split of the network in a ``TIMMBackbone``."""
    owner = next(cls for cls in type(backbone.timm_model).__mro__ if "forward" in vars(cls))
    name = f"{owner.__module__}.{owner.__qualname__}"
    if name not in SPLITS:
        raise TypeError(
            f"{owner.__name__} in TIMMBackbone is no known chain of stages: use outputs= or after="
        )
    return SPLITS[name]


def _inner_stages(backbone: Any) -> list[Stage]:
    return _inner(backbone).stages(backbone.timm_model)


def _inner_indices(backbone: Any) -> Sequence[int]:
    return _inner(backbone).indices(backbone.timm_model)


def _inner_outs(backbone: Any, count: int) -> Sequence[int]:
    return _inner(backbone).outs(backbone.timm_model, count)


def _inner_give(backbone: Any, index: int, x: Tensor) -> Tensor:
    return _inner(backbone).give(backbone.timm_model, index, x)


SPLITS: dict[str, Split] = {
    "timm.models.byobnet.ByobNet": classifier(_byob_layers, _head),
    "timm.models.convnext.ConvNeXt": classifier(_convnext_layers, _head),
    "timm.models.cspnet.CspNet": chain_classifier(_cspnet, _head),
    "timm.models.densenet.DenseNet": chain_classifier(_features, _head),
    "timm.models.dla.DLA": classifier(_dla_levels, _head),
    "timm.models.efficientnet.EfficientNet": chain_classifier(_efficientnet, _head),
    "timm.models.mobilenetv3.MobileNetV3": chain_classifier(_mobilenet_v3, _head),
    "timm.models.regnet.RegNet": classifier(_regnet_layers, _head),
    "timm.models.resnet.ResNet": classifier(_resnet, _head),
    "timm.models.vgg.VGG": chain_classifier(_features, _head),
    "timm.models._features.FeatureListNet": maps(returned_layers, _list),
    "timm.models._features.FeatureDictNet": maps(returned_layers, named_maps),
    "timm.models.efficientnet.EfficientNetFeatures": maps(_efficientnet_returned, _list),
    "timm.models.mobilenetv3.MobileNetV3Features": maps(_efficientnet_returned, _list),
    **{
        f"{framework}.models.backbones.timm_backbone.TIMMBackbone": Split(
            _inner_stages, _inner_indices, outs=_inner_outs, give=_inner_give
        )
        for framework in ("mmpretrain", "mmseg")
    },
}
