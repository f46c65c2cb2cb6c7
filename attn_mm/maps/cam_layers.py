"""Choose the layers of a network whose class activation maps explain it best.

Each framework's ``cam_target`` makes the score that the maps explain::

    layers = default_layers(model)
    maps = class_activation_maps(class_target(model, inputs, label), layers)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_mm.errors import UserError
from attn_mm.graft.blocks import FeedbackMixin
from attn_mm.graft.places import place_names
from attn_mm.graft.units import find_family


def default_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Choose layers of a model's backbone for class activation maps, from the input to the output.

    A backbone with stages gives the last block of each stage; if that block has feedback (TD), also the norm
    at the end of each step, named ``layer4 step 1`` and so on. SlowFast gives those of both pathways, HRNet
    the branches of its last module, which has all resolutions. A VGG gives the last layer of each group
    before the pooling. Any other backbone gives its last residual block, or else its last convolution.

    Raises:
        UserError: the backbone has no convolution.
    """
    backbone = getattr(model, "backbone", model)
    layers: dict[str, nn.Module] = {}
    for name, stage in _stages(backbone):
        layers |= _with_steps(name, list(stage)[-1] if isinstance(stage, nn.Sequential) else stage)
    if layers:
        return layers
    # Without the layers of grafts, whose outputs are no maps of the image.
    modules = list(place_names(backbone).items())
    blocks = [(n, m) for n, m in modules if find_family(m) is not None]
    if blocks:
        return _with_steps(*blocks[-1])
    convs = [(n, m) for n, m in modules if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    if not convs:
        raise UserError(f"{type(backbone).__name__} has no convolution to make a class activation map of")
    return dict(convs[-1:])


def _with_steps(name: str, last: nn.Module) -> dict[str, nn.Module]:
    """The last block of a stage, behind the norms of its steps."""
    norms = _step_norms(last) if isinstance(last, FeedbackMixin) else []
    return {**{f"{name} step {t}": norm for t, norm in enumerate(norms, 1)}, name: last}


def _stages(backbone: Any) -> Iterator[tuple[str, nn.Module]]:
    names = getattr(backbone, "res_layers", None) or getattr(backbone, "layers", ())
    if names and all(isinstance(name, str) for name in names):
        yield from ((name, getattr(backbone, name)) for name in names)
    elif isinstance(getattr(backbone, "features", None), nn.Sequential):
        yield from _before_pools(backbone.features)
    elif hasattr(backbone, "slow_path"):
        for path in ("slow_path", "fast_path"):
            yield from ((f"{path}.{name}", part) for name, part in _stages(getattr(backbone, path)))
    elif hasattr(backbone, "stage4") and hasattr(backbone.stage4[-1], "branches"):
        last = f"stage4.{len(backbone.stage4) - 1}.branches"
        yield from ((f"{last}.{index}", part) for index, part in enumerate(backbone.stage4[-1].branches))
    else:
        for attribute in ("groups", "stages", "layers"):
            parts = getattr(backbone, attribute, None)
            if isinstance(parts, nn.ModuleList):
                yield from ((f"{attribute}.{index}", part) for index, part in enumerate(parts))


def _before_pools(features: nn.Sequential) -> Iterator[tuple[str, nn.Module]]:
    """The last layer of each group; skips groups with only pooling layers."""
    previous = None
    for name, layer in [*features.named_children(), ("", None)]:
        pools = isinstance(layer, nn.MaxPool2d)
        if (layer is None or pools) and previous is not None:
            yield f"features.{previous[0]}", previous[1]
        previous = None if pools or layer is None else (name, layer)


def _step_norms(block: FeedbackMixin) -> list[nn.Module]:
    """The norm after the last convolution in each step; its output is the paper's X_t^N."""
    last = block.family.units(block)[-1]
    if not block.td.distance or not isinstance(last.norm, _BatchNorm):
        return []
    return [last.norm, *(norms.get_submodule(last.name) for norms in block.td.norms)]
