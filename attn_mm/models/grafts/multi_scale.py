"""The graft MultiScale: TDAF's flows without attention, to measure the effect of several scales alone.

Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021
(https://arxiv.org/abs/2012.07248), section 4.5, "On Multi-Scale and Attention": "we adopt the same
R2DNS setting (3 flows) and remove the attention modules among the recursive steps. In this way the
multiple flows are standalone without attention connections. Then the features of all the flows are
concatenated to conduct the classification in a multi-scale way."
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attn_mm.graft.checkpointing import checkpoint_by_flow
from attn_mm.graft.families import SPLITS
from attn_mm.graft.families.family import Stage
from attn_mm.graft.grafted import Flows, RunsStagesInFlows, record_of
from attn_mm.graft.options import check_whole
from attn_mm.graft.stages import find_split
from attn_mm.graft.swap import swap_class
from attn_mm.graft.units import forward_owner
from attn_mm.layers import convert_multi_flow
from attn_mm.layers.ops.execution import run_in_flow
from attn_mm.layers.r2dns import pyramid
from attn_mm.models.grafts.turns import Turn, graft


class MultiScaleMixin(RunsStagesInFlows):
    """Mixin: a backbone whose stages run in several independent flows."""

    def flow_stages(self) -> list[Stage]:
        """The stages that the flows run: the backbone's, with the stem as part of the first."""
        return SPLITS[self.flows.upstream_forward].stages(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute each flow's last map for ``x`` ``(N, C, *size)``, the first and smallest flow first."""
        stages = self.flow_stages()
        number = self.flows.number
        maps = pyramid(x, number)
        for n in range(number):
            # Eq. 1: flow n (from 0 here) has L - (N - 1 - n) stages.
            for stage in stages[: len(stages) - (number - 1 - n)]:
                maps[n] = run_in_flow(n, stage, maps[n])
        return tuple(maps)


@graft("MultiScale", Turn.FLOWS)
def multi_scale(backbone: Any, flows: int = 3) -> list[nn.Module]:
    """Make ``backbone``, in place, run in TDAF's flows (eqs. 1 and 2) without attention between them.

    With L stages, flow n = 1..N runs the first L - (N - n) of them on an input 2^(N - n) times smaller.
    The backbone returns the last map of each flow, flow 1 first, instead of those in ``out_indices``; the
    neck :class:`~attn_mm.models.necks.pooled_concat.PooledConcat` combines them for a classifier. Its
    parameters keep their names, and ``frozen_stages``, ``norm_eval`` and ``with_cp`` keep their meaning.
    Every norm gets statistics per flow.

    Args:
        backbone: a built backbone, see :data:`attn_mm.graft.families.SPLITS`.
        flows: N of eq. 1, from 2 to the number of stages.

    Returns:
        The new modules: none.

    Raises:
        TypeError: the backbone can't be split into stages.
        ValueError: ``flows`` is out of its range.
    """
    split = find_split(backbone)
    ends = tuple(split.indices(backbone))
    check_whole("flows", flows, 2, len(ends), why=" (the number of stages)")
    record_of(backbone).flows = Flows("MultiScale", flows, forward_owner(backbone), ends=ends)
    convert_multi_flow(backbone, flows)
    checkpoint_by_flow(backbone)
    swap_class(backbone, MultiScaleMixin)
    return []
