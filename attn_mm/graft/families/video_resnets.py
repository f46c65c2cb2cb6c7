"""ResNets of mmaction: of frames, of clips, of audio, and X3D."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from attn_mm.graft.families.family import (
    Family,
    Split,
    Stage,
    Unit,
    from_conv_module,
    last_layer,
    layer_chain,
    several,
    together,
    with_cp,
)
from attn_mm.graft.families.resnets import all_stages, downsampled, last_blocks, relu, staged


def _conv_modules(block: Any) -> list[Unit]:
    names = ("conv1", "conv2", "conv3") if hasattr(block, "conv3") else ("conv1", "conv2")
    return [from_conv_module(name, getattr(block, name)) for name in names]


def _relu_and_non_local(block: Any, x: Tensor) -> Tensor:
    x = block.relu(x)
    return block.non_local_block(x) if block.non_local else x


def _of_inner(block: Any) -> list[Unit]:
    first, *others = _conv_modules(block.block)
    return [first._replace(then=(block.tam,)), *others]


def _downsampled_of_inner(block: Any, x: Tensor) -> Tensor:
    return downsampled(block.block, x)


def _relu_of_inner(block: Any, x: Tensor) -> Tensor:
    return block.block.relu(x)


def _checkpoints_inner(block: Any) -> bool:
    return with_cp(block.block)


def _x3d(block: Any) -> list[Unit]:
    squeeze = () if block.se_ratio is None else (block.se_module,)
    return [
        from_conv_module("conv1", block.conv1),
        from_conv_module("conv2", block.conv2, (*squeeze, block.swish)),
        from_conv_module("conv3", block.conv3),
    ]


def _audio(block: Any) -> list[Unit]:
    first, last = from_conv_module("conv1", block.conv1), from_conv_module("conv3", block.conv3)
    if not block.factorize:
        return [first, from_conv_module("conv2", block.conv2), last]
    # ConvAudio concatenates what a convolution over time and one over frequency give.
    factors = block.conv2.conv.conv_1.conv, block.conv2.conv.conv_2.conv
    channels = first.out_channels, last.in_channels
    return [first, several("conv2", block.conv2, factors, channels), last]


def _omni(block: Any) -> list[Unit]:
    return [
        Unit("conv1", block.conv1, block.bn1, Tensor.relu_),
        Unit("conv2", block.conv2, block.bn2, Tensor.relu_),
        Unit("conv3", block.conv3, block.bn3, None),
    ]


def _omni_shortcut(block: Any, x: Tensor) -> Tensor:
    return block.downsample(x) if hasattr(block, "downsample") else x


def _relu_in_place(block: Any, x: Tensor) -> Tensor:
    return x.relu_()


def _clips_only(owner: Any, x: Tensor) -> Tensor:
    # For images its weights are summed over time in another forward.
    if x.dim() != 5:
        raise ValueError(
            f"a grafted OmniResNet runs on clips (N, C, T, H, W) only, got an input of {x.dim()} dimensions"
        )
    return x


_RESIDUAL = Family(_conv_modules, downsampled, relu)
_RESIDUAL_3D = Family(_conv_modules, downsampled, _relu_and_non_local)

FAMILIES: dict[str, Family] = {
    "mmaction.models.backbones.resnet.BasicBlock": _RESIDUAL,
    "mmaction.models.backbones.resnet.Bottleneck": _RESIDUAL,
    "mmaction.models.backbones.resnet3d.BasicBlock3d": _RESIDUAL_3D,
    "mmaction.models.backbones.resnet3d.Bottleneck3d": _RESIDUAL_3D,
    "mmaction.models.backbones.resnet_audio.Bottleneck2dAudio": Family(_audio, downsampled, relu),
    "mmaction.models.backbones.resnet_omni.BottleNeck": Family(
        _omni, _omni_shortcut, _relu_in_place, _clips_only
    ),
    "mmaction.models.backbones.tanet.TABlock": Family(
        _of_inner, _downsampled_of_inner, _relu_of_inner, checkpoints=_checkpoints_inner
    ),
    "mmaction.models.backbones.x3d.BlockX3D": Family(_x3d, downsampled, relu),
}


def _conv_and_pool(backbone: Any, x: Tensor) -> Tensor:
    return backbone.maxpool(backbone.conv1(x))


def _stem(backbone: Any, x: Tensor) -> Tensor:
    return _conv_and_pool(backbone, x) if getattr(backbone, "with_pool1", True) else backbone.conv1(x)


def _pool2(backbone: Any, x: Tensor) -> Tensor:
    return backbone.pool2(x) if getattr(backbone, "with_pool2", False) else x


def _of_frames(x: Tensor) -> Tensor:
    """``(N, C, T, H, W)`` as ``(N * T, C, H, W)``."""
    return x.transpose(1, 2).flatten(0, 1)


def _of_clips(x: Tensor, clips: int) -> Tensor:
    """``(N * T, C, H, W)`` as ``(N, C, T, H, W)``."""
    return x.unflatten(0, (clips, -1)).transpose(1, 2)


# C2D runs its layers on frames, and pools over clips between them.
def _by_frame(layer: nn.Module, x: Tensor) -> Tensor:
    return _of_clips(layer(_of_frames(x)), len(x))


def _c2d_first(backbone: Any, layer: nn.Module, x: Tensor) -> Tensor:
    x = backbone.maxpool3d_1(_by_frame(backbone.conv1, x))
    return backbone.maxpool3d_2(_by_frame(layer, x))


def _c2d_stages(backbone: Any) -> list[Stage]:
    first, *others = (getattr(backbone, name) for name in backbone.res_layers)
    return [partial(_c2d_first, backbone, first), *(partial(_by_frame, layer) for layer in others)]


def _omni_stem(backbone: Any, x: Tensor) -> Tensor:
    x = backbone.bn1(backbone.conv1(_clips_only(backbone, x))).relu_()
    return backbone.pool3d(x)


def _omni_layers(backbone: Any) -> list[list[Stage]]:
    return [[backbone.layer1], [backbone.layer2], [backbone.layer3], [backbone.layer4]]


def _x3d_stages(backbone: Any) -> list[Stage]:
    first, *others, last = (getattr(backbone, name) for name in backbone.res_layers)
    return [
        together([backbone.conv1_s, backbone.conv1_t, first]),
        *others,
        together([last, backbone.conv5]),
    ]


def _audio_stages(backbone: Any) -> list[Stage]:
    first, *others = (getattr(backbone, name) for name in backbone.res_layers)
    return [together([backbone.conv1, first]), *others]


_RESNET = staged(_stem, _pool2, bare=True)

SPLITS: dict[str, Split] = {
    "mmaction.models.backbones.c2d.C2D": Split(_c2d_stages, all_stages, last_blocks, bare=True, dims=3),
    "mmaction.models.backbones.resnet.ResNet": _RESNET,
    "mmaction.models.backbones.resnet2plus1d.ResNet2Plus1d": staged(_conv_and_pool, bare=True),
    "mmaction.models.backbones.resnet3d.ResNet3d": _RESNET,
    "mmaction.models.backbones.resnet_audio.ResNetAudio": Split(
        _audio_stages, all_stages, outs=last_layer, bare=True
    ),
    "mmaction.models.backbones.resnet_omni.OmniResNet": layer_chain(
        _omni_layers, _omni_stem, last_layer, bare=True
    ),
    "mmaction.models.backbones.x3d.X3D": Split(_x3d_stages, all_stages, outs=last_layer, bare=True),
}
