"""A 3D backbone that starts from 2D weights."""

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
    """Mixin: a backbone whose initialization ends with 2D weights."""

    attn_mm: Grafted

    def init_weights(self, *args, **kwargs) -> None:
        super().init_weights(*args, **kwargs)  # type: ignore[misc]  # of mmengine's BaseModule
        if self.attn_mm.inflated_from:
            load_inflated(self, self.attn_mm.inflated_from)


def load_inflated(net: nn.Module, filename: str) -> None:
    """Load a checkpoint of a 2D backbone, or of a model with one, into the 3D backbone ``net``.

    Raises:
        ConfigError: the checkpoint is of another network.
        CheckpointError: it can't be had.
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
    """Build a 3D backbone, grafted or not, whose ``init_weights`` ends with inflated 2D weights.

    The object returned is the backbone itself. See :mod:`attn_mm.graft.inflate` for the rule, which
    goes for every convolution, those of grafts included; everything else is loaded as it is, and norms'
    statistics go to every flow where the checkpoint has no flows. One line says what was inflated,
    loaded as it is, new or unexpected.

    Args:
        backbone: config of a 3D ResNet of mmaction, or of an ``attn_mm.AttnBackbone`` or ``attn_mm.TDAF``
            around one.
        pretrained: checkpoint of the 2D network with the same blocks, as torchvision, mmpretrain,
            mmdet, mmpose, mmaction or attn_mm name its parameters: a file, a URL, or
            ``'torchvision://resnet50'``; None inflates nothing.

    Raises:
        ConfigError: the backbone is none of 3D, or names weights of its own.
    """
    net = MMENGINE_MODELS.build(backbone)
    name = type(net).__name__
    if not any(isinstance(module, CONVS) for module in net.modules()):
        raise ConfigError(f"attn_mm.Inflated is for 3D backbones, and {name} has no 3D convolution")
    record = record_of(net)
    if getattr(net, "pretrained", None) or record.inflated_from:
        raise ConfigError(f"{name} names pretrained weights already: name them in attn_mm.Inflated alone")
    record.inflated_from = pretrained
    return swap_class(net, InflatedMixin)
