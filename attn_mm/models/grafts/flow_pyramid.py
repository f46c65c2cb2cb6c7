"""A backbone that gives one map for each flow of a head.

Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021
(https://arxiv.org/abs/2012.07248), sections 3.1 and 4.3. The paper puts the
recursion into the deconvolutions of a pose network and doesn't say what its
first flows take. Here each takes its own pass through the shared backbone, on
its own copy of the image (eq. 2); :class:`attn_mm.models.heads.tdaf_heatmap.TDAFHeatmapHead`
says what the other reading is.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attn_mm.graft.checkpointing import checkpoint_by_flow
from attn_mm.graft.grafted import Flows, Grafted, record_of
from attn_mm.graft.options import check_whole
from attn_mm.graft.swap import swap_class
from attn_mm.layers import MFBN, convert_multi_flow
from attn_mm.layers.ops.execution import run_in_flow
from attn_mm.layers.r2dns import pyramid
from attn_mm.registry import GRAFTS


class FlowPyramidMixin(nn.Module):
    """Mixin: the backbone runs on every size of a pyramid of its input."""

    attn_mm: Grafted

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Every flow's last map for ``x`` ``(N, C, *size)``, from the first flow's, the smallest, on."""
        assert self.attn_mm.flows is not None
        images = pyramid(x, self.attn_mm.flows.number)
        return tuple([run_in_flow(n, self._last_map, x_n) for n, x_n in enumerate(images)])

    def _last_map(self, x: Tensor) -> Tensor:
        maps = super().forward(x)
        return maps if isinstance(maps, Tensor) else maps[-1]


@GRAFTS.register_module(name="FlowPyramid")
def flow_pyramid(backbone: Any, flows: int = 3) -> list[nn.Module]:
    """Let ``backbone``, in place, run on a pyramid of its input, and give the last map of each size.

    Its parameters keep their names, so its checkpoints load, and ``frozen_stages``, ``norm_eval``
    and ``with_cp`` mean what they meant; of ``out_indices`` the last is what leaves. New are
    statistics per flow in every batch norm.

    Args:
        backbone: any built backbone that takes images of every size.
        flows: sizes of the pyramid: flow n's image is 2^(flows - n) times smaller than the input.

    Returns:
        The new modules: none.

    Raises:
        ValueError: ``flows`` is below 2.
        TypeError: a batch norm of a class whose multi-flow form is not known.
    """
    check_whole("flows", flows, 2, why=" (one flow is the plain backbone)")
    record_of(backbone).flows = Flows("FlowPyramid", flows)
    convert_multi_flow(backbone, flows)
    checkpoint_by_flow(_checkpointed(backbone))
    swap_class(backbone, FlowPyramidMixin)
    return []


def _checkpointed(backbone: nn.Module) -> list[nn.Module]:
    """What runs again in the backward pass and has norms that must know the flow."""
    told = {module for module in backbone.modules() if getattr(module, "with_cp", False)}
    # What is around a block has the flag only to hand it down.
    blocks = [module for module in told if not any(inner in told for inner in list(module.modules())[1:])]
    return [block for block in blocks if any(isinstance(module, MFBN) for module in block.modules())]
