"""Pose head with TDAF's top-down recursion over its deconvolutions.

Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021,
section 4.3 and table 5 (https://arxiv.org/abs/2012.07248): "We adopt SimplePose
as our baseline and modify its deconvolutional layers into our TDAF version with
3 recursive flows." SimplePose is Xiao, Wu & Wei, Simple Baselines for Human Pose
Estimation and Tracking, ECCV 2018 (https://arxiv.org/abs/1804.06208).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from mmpose.models.heads import HeatmapHead
from torch import Tensor, nn

from attn_mm.errors import ConfigError
from attn_mm.graft.grafted import Flows, Grafted, RunsStagesInFlows
from attn_mm.graft.options import check_whole
from attn_mm.graft.state import LoadReport
from attn_mm.layers import ANAR, convert_multi_flow, r2dns
from attn_mm.layers.ops.execution import shows_inner_maps
from attn_mm.layers.r2dns import attention_as_masks, check_recursion, masks_as_attention
from attn_mm.layers.recording import Attention
from attn_mm.models.grafts.tdaf import ANARs

LAYERS_OF_A_STAGE = 3
"""``HeatmapHead`` puts a norm and a ReLU after each deconvolution."""


class DeconvFlows(nn.Sequential, RunsStagesInFlows):
    """Run the deconvolutions of a ``HeatmapHead`` as stages of :class:`attn_mm.layers.R2DNS`; names stay.

    Args:
        layers: deconvolution, norm and ReLU for each stage.
        flows, anar, width, eta, first_mask: see :class:`TDAFHeatmapHead`.
    """

    def __init__(
        self,
        layers: nn.Sequential,
        flows: int,
        anar: Literal[2, 3, 5, 7],
        width: int | Literal["stage"],
        eta: float,
        first_mask: Literal["none", "ones"],
    ) -> None:
        super().__init__(OrderedDict(layers.named_children()))
        deconvs: Any = layers[::LAYERS_OF_A_STAGE]
        widths = [deconv.out_channels for deconv in deconvs]
        check_whole("flows", flows, 2, len(widths), why=" (the number of deconvolutions)")
        check_recursion(len(widths), flows, len(widths) - 1, eta, first_mask)
        self.anars = ANARs(ANAR(channels, anar, width) for channels in widths[:-1])
        self.anars.init_weights()
        self.attn_mm = Grafted(flows=Flows("TDAF", flows, eta=eta, first_mask=first_mask))

    def extra_repr(self) -> str:
        flows = self.flows
        return f"flows={flows.number}, eta={flows.eta}, first_mask={flows.first_mask!r}"

    def init_weights(self) -> None:
        """Initialise the ANARs by their own rule; mmengine calls this after the head's ``init_weights``."""
        self.anars.init_weights()

    def forward(self, x: Tensor | Sequence[Tensor], masks: dict | None = None) -> Tensor:
        """Compute the last flow's map, 2^L times the size of ``x``; see :func:`attn_mm.layers.r2dns`."""
        flows = self.flows
        assert flows.eta is not None
        maps = r2dns(
            self.flow_stages(),
            self.anars,
            x,
            flows.number,
            flows.eta,
            flows.first_mask,
            masks=masks,
            in_place=not shows_inner_maps(self),
        )
        return maps[-1]

    def recorded(self, run, x: Tensor | Sequence[Tensor], masks=None) -> tuple[Tensor, list[Attention]]:
        """See :mod:`attn_mm.layers.recording`."""
        masks = {} if masks is None else masks
        return run(x, masks), masks_as_attention(masks)

    def flow_stages(self) -> list[Callable[[Tensor], Tensor]]:
        """The stages that the flows run: each a deconvolution with its norm and ReLU."""
        layers = [layer for layer in self if layer is not self.anars]
        starts = range(0, len(layers), LAYERS_OF_A_STAGE)
        return [partial(_in_turn, layers[start : start + LAYERS_OF_A_STAGE]) for start in starts]


def _in_turn(layers: list[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


class TDAFHeatmapHead(LoadReport, HeatmapHead):
    """SimpleBaseline's head whose deconvolutions run in flows, each masked by the previous one.

    A stage is a deconvolution with its norm and ReLU; an ANAR follows each stage except the
    last. The parameters keep ``HeatmapHead``'s names, so its checkpoints load. The head adds
    ``deconv_layers.anars``, and every batch norm becomes multi-flow. The layers after the
    deconvolutions use only the last flow.

    The paper doesn't specify the input of the first flows. By default it is the backbone's
    features, downsampled (eq. 2 with X the features), so that the backbone runs once. With
    ``flow_inputs='pyramid'`` it is the features of the downsampled image, which requires the
    graft ``attn_mm.FlowPyramid`` on the backbone.

    Args:
        flows: N of eq. 1, from 2 to the number of deconvolutions.
        anar: number of layers of an ANAR (table 1): 2, 3, 5 or 7.
        width: c of table 1, see :class:`attn_mm.layers.ANAR`.
        eta: shortcut of eq. 5.
        first_mask: see :class:`attn_mm.layers.R2DNS`.
        flow_inputs: ``'features'`` or ``'pyramid'``.
        heatmap_head: options of mmpose's ``HeatmapHead``; ``deconv_out_channels`` and
            ``deconv_kernel_sizes`` must define at least two deconvolutions.

    Raises:
        ValueError: an option is out of its range.
    """

    deconv_layers: Any

    def __init__(
        self,
        *,
        flows: int = 3,
        anar: Literal[2, 3, 5, 7] = 3,
        width: int | Literal["stage"] = 512,
        eta: float = 0.5,
        first_mask: Literal["none", "ones"] = "none",
        flow_inputs: Literal["features", "pyramid"] = "features",
        **heatmap_head,
    ) -> None:
        super().__init__(**heatmap_head)
        if flow_inputs not in ("features", "pyramid"):
            raise ValueError(f"flow_inputs must be 'features' or 'pyramid', got {flow_inputs!r}")
        layers = self.deconv_layers
        if not isinstance(layers, nn.Sequential) or len(layers) < 2 * LAYERS_OF_A_STAGE:
            given = heatmap_head.get("deconv_out_channels")
            raise ValueError(f"deconv_out_channels must define at least two deconvolutions, got {given!r}")
        self.flow_inputs = flow_inputs
        self.deconv_layers = DeconvFlows(layers, flows, anar, width, eta, first_mask)
        convert_multi_flow(self, flows)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Compute heatmaps ``(N, out_channels, h, w)`` from the backbone's maps.

        Raises:
            ConfigError: the maps don't fit ``flows`` and ``flow_inputs``.
        """
        return super().forward((self._inputs(feats),))

    def attention_masks(self, feats: Sequence[Tensor]) -> dict[tuple[int, int], Tensor]:
        """Compute ``{(stage from 0, flow from 1): mask (N, 1, h, w)}`` from the backbone's maps."""
        layers = self.deconv_layers
        return attention_as_masks(layers.recorded(layers, self._inputs(feats))[1])

    def _inputs(self, feats: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """The input of the flows: one map for all, or one for each."""
        flows = self.deconv_layers.flows.number
        if not feats:
            raise ConfigError("attn_mm.TDAFHeatmapHead requires the backbone's maps, got none")
        if self.flow_inputs == "pyramid":
            if len(feats) != flows or not _may_be_pyramid(feats):
                raise ConfigError(
                    f"attn_mm.TDAFHeatmapHead(flow_inputs='pyramid') requires {flows} maps, smallest first, "
                    f"got {_sizes(feats)}: add the graft attn_mm.FlowPyramid(flows={flows}) to the backbone, "
                    "or set flow_inputs='features'"
                )
            return list(feats)
        if _may_be_pyramid(feats) and feats[0].shape != feats[-1].shape:
            raise ConfigError(
                "attn_mm.TDAFHeatmapHead(flow_inputs='features') requires one map, got a pyramid "
                f"of {_sizes(feats)}: set flow_inputs='pyramid', or remove attn_mm.FlowPyramid"
            )
        return feats[-1]


def _may_be_pyramid(feats: Sequence[Tensor]) -> bool:
    """Whether the maps have the same channels and never shrink; maps of a tiny image may be equal."""
    return all(_may_precede(feats[i], feats[i + 1]) for i in range(len(feats) - 1))


def _may_precede(small: Tensor, large: Tensor) -> bool:
    same_channels = small.shape[1] == large.shape[1]
    return same_channels and all(s <= t for s, t in zip(small.shape[2:], large.shape[2:]))


def _sizes(feats: Sequence[Tensor]) -> str:
    return ", ".join("x".join(map(str, feat.shape[1:])) for feat in feats) or "none"
