"""The config type ``Inflated``: a 3D backbone that starts from 2D weights."""

from __future__ import annotations

from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.runner.checkpoint import _load_checkpoint
from torch import nn

from attn_mm.errors import ConfigError
from attn_mm.graft.grafted import Grafted, record_of
from attn_mm.graft.inflate import CONVS, inflate_state
from attn_mm.graft.state import LoadReport
from attn_mm.graft.swap import swap_class
from attn_mm.registry import MODELS

BACKBONE = "backbone."


class InflatedMixin(LoadReport):
    """Mixin: a backbone whose ``init_weights`` finally loads inflated 2D weights."""

    attn_mm: Grafted

    def init_weights(self, *args, **kwargs) -> None:
        super().init_weights(*args, **kwargs)  # type: ignore[misc]  # of mmengine's BaseModule
        if self.attn_mm.inflated_from:
            load_inflated(self, self.attn_mm.inflated_from)


def load_inflated(net: nn.Module, filename: str) -> None:
    """Load a checkpoint of a 2D backbone, or of a model with one, into the 3D backbone ``net``.

    Raises:
        ConfigError: the checkpoint doesn't fit the network.
        CheckpointError: the checkpoint can't be read or downloaded.
    """
    checkpoint = _load_checkpoint(filename, map_location="cpu")
    state = checkpoint.get("state_dict", checkpoint)
    of_backbone = {k.removeprefix(BACKBONE): v for k, v in state.items() if k.startswith(BACKBONE)}
    try:
        inflated = inflate_state(net, of_backbone or state)
    except ValueError as error:
        raise ConfigError(
            f"{filename} can't be inflated into {type(net).__name__}: {error}; "
            "pretrained must name a 2D network of the same blocks and widths"
        ) from error
    net.load_state_dict(inflated, strict=False)


@MODELS.register_module(name="Inflated")
def inflated(backbone: dict, pretrained: str | None) -> nn.Module:
    """Build a 3D backbone, grafted or not, whose ``init_weights`` finally loads inflated 2D weights.

    Returns the backbone object itself. :mod:`attn_mm.graft.inflate` describes the rule. It applies to all
    convolutions, those of grafts included. Everything else loads unchanged; if the checkpoint has no
    flows, every flow gets its norms' statistics. A log line lists what was inflated, loaded unchanged, new
    or unexpected.

    Args:
        backbone: config of an mmaction 3D ResNet, or of an ``attn_mm.AttnBackbone`` or ``attn_mm.TDAF``
            around one.
        pretrained: checkpoint of the 2D network with the same blocks and the parameter names of
            torchvision, mmpretrain, mmdet, mmpose, mmaction or attn_mm: a file, a URL, or
            ``'torchvision://resnet50'``; None inflates nothing.

    Returns:
        The backbone.

    Raises:
        ConfigError: the backbone has no 3D convolution, or sets pretrained weights itself.
    """
    net = MMENGINE_MODELS.build(backbone)
    name = type(net).__name__
    if not any(isinstance(module, CONVS) for module in net.modules()):
        raise ConfigError(f"attn_mm.Inflated requires a 3D backbone, but {name} has no 3D convolution")
    record = record_of(net)
    if getattr(net, "pretrained", None) or record.inflated_from:
        raise ConfigError(f"{name} already sets pretrained weights: set them in attn_mm.Inflated only")
    record.inflated_from = pretrained
    return swap_class(net, InflatedMixin)
