"""The graft FlowPyramid: a backbone that returns one map for each flow of a head.

Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021
(https://arxiv.org/abs/2012.07248), sections 3.1 and 4.3. The paper puts the
recursion into the deconvolutions of a pose network and doesn't specify the input of
its first flows. Here the shared backbone runs once for each flow, on the image
downsampled for that flow (eq. 2). For the alternative see
:class:`attn_mm.models.heads.tdaf_heatmap.TDAFHeatmapHead`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attn_mm.graft.checkpointing import checkpoint_by_flow
from attn_mm.graft.grafted import Flows, Grafted, record_of
from attn_mm.graft.options import check_whole
from attn_mm.graft.swap import swap_class
from attn_mm.layers import convert_multi_flow
from attn_mm.layers.ops.execution import run_in_flow
from attn_mm.layers.r2dns import pyramid
from attn_mm.models.grafts.turns import Turn, graft


class FlowPyramidMixin(nn.Module):
    """Mixin: a backbone that runs on every size of a pyramid of its input."""

    attn_mm: Grafted

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute each flow's last map for ``x`` ``(N, C, *size)``, the first and smallest flow first."""
        assert self.attn_mm.flows is not None
        images = pyramid(x, self.attn_mm.flows.number)
        return tuple([run_in_flow(n, self._last_map, x_n) for n, x_n in enumerate(images)])

    def _last_map(self, x: Tensor) -> Tensor:
        maps = super().forward(x)
        return maps if isinstance(maps, Tensor) else maps[-1]


@graft("FlowPyramid", Turn.FLOWS)
def flow_pyramid(backbone: Any, flows: int = 3) -> list[nn.Module]:
    """Make ``backbone``, in place, run on a pyramid of its input and return the last map of each size.

    Its parameters keep their names, so its checkpoints load, and ``frozen_stages``, ``norm_eval``
    and ``with_cp`` keep their meaning. It returns only the last map of ``out_indices``. Every batch
    norm gets statistics per flow.

    Args:
        backbone: any built backbone that accepts images of any size.
        flows: number of sizes; flow n's image is 2^(flows - n) times smaller than the input.

    Returns:
        The new modules: none.

    Raises:
        ValueError: ``flows`` is below 2.
        TypeError: a batch norm's class has no known multi-flow form, or the backbone is DetectoRS's, which a
            neck runs again in another way.
    """
    check_whole("flows", flows, 2, why=" (one flow is the plain backbone)")
    if hasattr(backbone, "rfp_forward"):
        raise TypeError(f"{type(backbone).__name__} also runs by rfp_forward, which has no flows")
    record_of(backbone).flows = Flows("FlowPyramid", flows)
    convert_multi_flow(backbone, flows)
    checkpoint_by_flow(backbone)
    swap_class(backbone, FlowPyramidMixin)
    return []
