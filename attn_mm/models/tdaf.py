"""TDAF grafted onto an upstream staged backbone.

Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021
(https://arxiv.org/abs/2012.07248). The recursion is
:class:`attn_mm.layers.R2DNS`; the stages are the backbone's own, the stem being
part of the first, as in the paper's ResNets (section 4.1).
"""

from __future__ import annotations

from typing import Literal

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from attn_mm.errors import ConfigError
from attn_mm.graft.checkpointing import checkpoint_by_flow
from attn_mm.graft.stages import find_stem, stage_channels
from attn_mm.graft.state import LoadReport
from attn_mm.graft.swap import swap_class
from attn_mm.layers import ANAR, convert_multi_flow, r2dns
from attn_mm.layers.r2dns import check_recursion
from attn_mm.registry import MODELS


class TDAFMixin(LoadReport):
    """What a grafted backbone does differently from the class it was built as."""

    def _recur(self, x: Tensor, masks=None) -> list[Tensor]:
        first, *others = (getattr(self, name) for name in self.res_layers)
        stages = [lambda x: first(self.stem_of(self, x)), *others]
        return r2dns(stages, self.anars, x, self.flows, self.eta, self.first_mask, masks)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last flow's features of the stages in ``out_indices`` for ``x`` ``(N, C, H, W)``."""
        outputs = self._recur(x)
        return tuple(y for i, y in enumerate(outputs) if i in self.out_indices)

    def attention_masks(self, x: Tensor) -> dict[tuple[int, int], Tensor]:
        """``{(stage from 0, flow from 1): mask (N, 1, h, w)}``, the mask being what attends that flow."""
        masks: dict[tuple[int, int], Tensor] = {}
        self._recur(x, masks)
        return masks

    def train(self, mode: bool = True):
        super().train(mode)
        # norm_eval keeps pretrained statistics; the ANARs' norms have none to keep.
        self.anars.train(mode)
        return self


class _ANARs(nn.ModuleList):
    """The ANARs, whose start mmengine puts after the backbone's own rules and before a checkpoint."""

    def init_weights(self) -> None:
        for anar in self:
            anar.reset_parameters()


@MODELS.register_module(name="TDAF")
def tdaf(
    backbone: dict,
    flows: int = 3,
    anar: Literal[2, 3, 5, 7] = 3,
    width: int | Literal["stage"] = 512,
    eta: float = 0.5,
    first_mask: Literal["none", "ones"] = "none",
) -> nn.Module:
    """Build an upstream backbone and graft the top-down recursion onto it.

    The object returned is the upstream backbone itself: its parameters keep
    their names, so its checkpoints load, and ``frozen_stages``, ``norm_eval``,
    ``with_cp`` and ``out_indices`` mean what they meant. New are ``anars``, one
    ANAR behind each stage but the last, and statistics per flow in every norm.

    Args:
        backbone: config of a staged ResNet or ResNeXt of mmdet, mmpose or mmpretrain.
        flows: N of eq. 1, from 2 to the number of stages.
        anar: layers of an ANAR (table 1): 2, 3, 5 or 7.
        width: c of table 1, see :class:`attn_mm.layers.ANAR`.
        eta: shortcut of eq. 5.
        first_mask: see :class:`attn_mm.layers.R2DNS`.

    Raises:
        ConfigError: the backbone can't be split into stages, or ``flows``, ``anar``,
            ``width`` or ``first_mask`` is out of its range.
    """
    net = MMENGINE_MODELS.build(backbone)
    try:
        return _graft(net, flows, anar, width, eta, first_mask)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error


def _graft(net: nn.Module, flows, anar, width, eta, first_mask) -> nn.Module:
    net.stem_of = find_stem(net)
    channels = stage_channels(net)
    check_recursion(len(channels), flows, len(channels) - 1, first_mask)
    net.anars = _ANARs(ANAR(c, depth=anar, width=width) for c in channels[:-1])
    net.flows, net.eta, net.first_mask = flows, eta, first_mask
    net.anars.init_weights()
    convert_multi_flow(net, flows)
    for name in net.res_layers:
        checkpoint_by_flow(getattr(net, name))
    swap_class(net, TDAFMixin)
    net.train(net.training)
    return net
