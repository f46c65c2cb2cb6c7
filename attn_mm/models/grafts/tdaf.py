"""The graft TDAF: top-down recursion over the stages of an upstream backbone.

Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021
(https://arxiv.org/abs/2012.07248). The recursion is
:class:`attn_mm.layers.R2DNS`; the stages are the backbone's own, with the stem as
part of the first, as in the paper's ResNets (section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from attn_mm.graft.checkpointing import NO_CHECKPOINTS, checkpoint_by_flow
from attn_mm.graft.families import SPLITS
from attn_mm.graft.families.family import Split, Stage
from attn_mm.graft.grafted import Flows, RunsStagesInFlows, record_of
from attn_mm.graft.hidden import add_child
from attn_mm.graft.options import check_whole
from attn_mm.graft.own_init import OwnStart
from attn_mm.graft.stages import attended_maps, find_split
from attn_mm.graft.swap import swap_class
from attn_mm.graft.units import forward_owner
from attn_mm.layers import ANAR, convert_multi_flow, r2dns
from attn_mm.layers.ops.execution import shows_inner_maps
from attn_mm.layers.r2dns import attention_as_masks, check_recursion, masks_as_attention
from attn_mm.layers.recording import Attention
from attn_mm.models.grafts.turns import Turn, graft


class TDAFMixin(RunsStagesInFlows):
    """Mixin: a backbone whose stages run in several flows, each masked by the previous one."""

    recorded_call = "_recur"
    anars: ANARs

    def flow_stages(self) -> list[Stage]:
        """The stages that the flows run: the backbone's, with the stem as part of the first."""
        return SPLITS[self.flows.upstream_forward].stages(self)

    def _recur(self, x: Tensor, masks=None) -> list[Tensor]:
        flows = self.flows
        assert flows.eta is not None
        return r2dns(
            self.flow_stages(),
            self.anars,
            x,
            flows.number,
            flows.eta,
            flows.first_mask,
            masks,
            in_place=not shows_inner_maps(self),
            streams=flows.streams,
        )

    def recorded(self, run, x: Tensor, masks=None) -> tuple[list[Tensor], list[Attention]]:
        """See :mod:`attn_mm.layers.recording`."""
        masks = {} if masks is None else masks
        return run(x, masks), masks_as_attention(masks)

    def forward(self, x: Tensor) -> Any:
        """Compute what the backbone returns, of the last flow's maps, for ``x`` ``(N, C, *size)``."""
        split = SPLITS[self.flows.upstream_forward]
        ends = self.flows.ends
        returned = split.outs(self, ends[-1] + 1)
        maps = tuple(split.give(self, i, y) for i, y in zip(ends, self._recur(x)) if i in returned)
        if split.pack is not None:
            return split.pack(self, maps)
        return maps[0] if split.bare and len(maps) == 1 else maps

    def attention_masks(self, x: Tensor) -> dict[tuple[int, int], Tensor]:
        """Compute ``{(stage from 0, flow from 1): mask (N, 1, h, w)}``; each mask multiplies that flow."""
        return attention_as_masks(self.recorded(self._recur, x)[1])


class TimmTDAFMixin(TDAFMixin):
    """Mixin of timm's classifiers, which run in other ways as well."""

    prefix = "TDAF"

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the last flow's last map for images ``x`` ``(N, C, H, W)``."""
        return self._recur(x)[-1]

    def forward_intermediates(self, *_, **__) -> Any:
        """Raise RuntimeError: the maps of all stages are those of a network with ``features_only=True``."""
        raise RuntimeError(
            "forward_intermediates would run without TDAF: attach it to a features_only network"
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Raise RuntimeError where it is switched on."""
        if enable:
            raise RuntimeError(NO_CHECKPOINTS)


class ANARs(OwnStart, nn.ModuleList):
    """The ANARs of a backbone, initialised by their own rule."""

    def start(self) -> None:
        anar: Any
        for anar in self:
            anar.reset_parameters()


@graft("TDAF", Turn.FLOWS)
def top_down_flows(
    backbone: Any,
    flows: int = 3,
    anar: Literal[2, 3, 5, 7] = 3,
    width: int | Literal["stage"] = 512,
    eta: float = 0.5,
    first_mask: Literal["none", "ones"] = "none",
    depthwise: bool = False,
    streams: bool = False,
    stage_ends: Sequence[int] | None = None,
    skip_kernel: Literal[1, 3] = 1,
) -> list[nn.Module]:
    """Graft TDAF's top-down recursion onto ``backbone``, in place.

    Its parameters keep their names, so its checkpoints load, and
    ``frozen_stages``, ``norm_eval``, ``with_cp`` and ``out_indices`` keep their
    meaning. The graft adds ``anars``, one ANAR after each stage except the last, and
    gives every norm statistics per flow.

    Args:
        backbone: a built backbone, see :data:`attn_mm.graft.families.SPLITS`.
        flows: N of eq. 1, from 2 to the number of stages.
        anar: number of layers of an ANAR (table 1): 2, 3, 5 or 7.
        width: c of table 1, see :class:`attn_mm.layers.ANAR`.
        eta: shortcut of eq. 5.
        first_mask: see :class:`attn_mm.layers.R2DNS`.
        depthwise: whether ANARs use depthwise convolutions, as in the paper's MobileNets.
        streams: whether the flows of a stage run in parallel, each on its own CUDA stream; use it
            for batches that are too small to fill the device.
        stage_ends: the outputs behind which the stages end, as the backbone's ``out_indices`` names them,
            where the backbone leaves a choice. A VGG has attention behind its third, fourth and fifth pool;
            with ``(0, 1, 2, 3, 4, 5)`` behind each of its five pools, as in the paper's text.
        skip_kernel: kernel of an ANAR's skip convolutions, see :class:`attn_mm.layers.ANAR`.

    Returns:
        The new modules.

    Raises:
        TypeError: the backbone can't be split into stages.
        ValueError: an option is out of its range, or ``out_indices`` names maps that are not stages.
    """
    if not isinstance(streams, bool):
        raise ValueError(f"streams must be True or False, got {streams!r}")
    split = find_split(backbone)
    ends = tuple(split.indices(backbone)) if stage_ends is None else _chosen(stage_ends, split, backbone)
    returned = split.outs(backbone, ends[-1] + 1)
    if not set(returned) <= set(ends):
        raise ValueError(
            f"out_indices must be in {', '.join(map(str, ends))}, the stages into which TDAF splits "
            f"{type(backbone).__name__}, got {tuple(returned)}"
        )
    if len(ends) < 2:
        kind = type(backbone).__name__
        raise ValueError(f"{kind} returns one map, but TDAF needs stages between several: let it return more")
    check_whole("flows", flows, 2, len(ends), why=" (the number of stages)")
    owner = forward_owner(backbone)
    # The split reads the ends from here.
    record_of(backbone).flows = Flows("TDAF", flows, owner, eta, first_mask, streams, ends)
    channels, dims = attended_maps(split, backbone)
    check_recursion(len(ends), flows, len(channels), eta, first_mask)
    anars = ANARs(ANAR(width_in, anar, width, dims, depthwise, skip_kernel) for width_in in channels)
    add_child(backbone, "anars", anars)
    backbone.anars.init_weights()
    convert_multi_flow(backbone, flows)
    checkpoint_by_flow(backbone)
    swap_class(backbone, TimmTDAFMixin if hasattr(backbone, "forward_intermediates") else TDAFMixin)
    return [backbone.anars]


def _chosen(stage_ends: Sequence[int], split: Split, backbone: Any) -> tuple[int, ...]:
    """The ends of the stages that a config chooses; ValueError if the backbone can't end stages there."""
    kind, possible = type(backbone).__name__, list(split.possible_ends)
    if not possible:
        raise ValueError(f"the stages of {kind} can't be chosen: leave stage_ends out")
    ends = [stage_ends] if isinstance(stage_ends, int) else list(stage_ends)
    if ends != [end for end in possible if end in ends] or ends[-1:] != possible[-1:]:
        raise ValueError(
            f"stage_ends of {kind} must be some of {', '.join(map(str, possible))} in this order, with "
            f"{possible[-1]}, the last, got {stage_ends!r}"
        )
    return tuple(ends)
