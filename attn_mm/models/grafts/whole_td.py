"""The graft WholeTD: top-down feedback over a whole backbone, which runs again on a modulated image.

Jaiswal, Fernando & Tan, TDAM: Top-Down Attention Module for Contextually Guided Feature Selection in CNNs,
ECCV 2022 (https://arxiv.org/abs/2111.13470), section 3: "the formulation can be generalized to be a single
block spanning the entire CNN model with the bottom input = image input and [the top] = pre-classifier feature
map". The paper finds that this trains unstably and performs "significantly" worse; it is here to repeat that.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from attn_mm.graft.checkpointing import checkpoint_by_flow
from attn_mm.graft.grafted import Flows, Grafted, record_of
from attn_mm.graft.hidden import add_child
from attn_mm.graft.options import check_whole
from attn_mm.graft.probe import CannotRun, run_on_example
from attn_mm.graft.swap import swap_class
from attn_mm.layers import TopDownAttention
from attn_mm.layers.ops.execution import run_in_flow
from attn_mm.layers.step_norm import convert_steps
from attn_mm.models.grafts.turns import Turn, graft


class WholeTDMixin(nn.Module):
    """Mixin: a backbone whose last map modulates its input for its next step."""

    attn_mm: Grafted
    td: TopDownAttention

    def forward(self, x: Tensor) -> Any:
        """Compute what the backbone returns, at its last step, for ``x`` ``(N, C, *size)``."""
        assert self.attn_mm.flows is not None
        last = self.attn_mm.flows.number - 1
        for step in range(last):
            top = _last_map(run_in_flow(step, super().forward, x))
            x = self.td.modulate(x, top.mean(tuple(range(2, top.dim()))))
        return run_in_flow(last, super().forward, x)


def _last_map(maps: Any) -> Any:
    return maps[-1] if isinstance(maps, list | tuple) else maps


@graft("WholeTD", Turn.FLOWS)
def whole_top_down(
    backbone: Any,
    mode: Literal["joint", "top"] = "joint",
    steps: int = 2,
    reduction: int = 16,
    hidden: Literal["code", "paper"] = "code",
    spatial: Literal["raw", "sigmoid"] = "raw",
) -> list[nn.Module]:
    """Add top-down feedback over the whole backbone: it runs ``steps`` times on a modulated input.

    Convolutions are shared by the steps; each step has batch norms of its own, which start as copies.
    Parameters keep their names; those of norms get a row for each step. Checkpoints of the plain backbone
    load.

    Args:
        backbone: any built backbone that returns maps.
        steps: t in the paper, at least 2.
        mode, reduction, hidden, spatial: see :class:`attn_mm.layers.TopDownAttention`; the bottom map is the
            image, and the top map the backbone's last one.

    Returns:
        The new modules.

    Raises:
        ValueError: an option is out of its range, or the backbone returns no map.
        TypeError: a batch norm can't have steps, or the backbone is DetectoRS's, which a neck runs again in
            another way.
    """
    kind = type(backbone).__name__
    check_whole("steps", steps, 2, why=" (one step is the plain backbone)")
    if hasattr(backbone, "rfp_forward"):
        raise TypeError(f"{kind} also runs by rfp_forward, which has no steps")
    try:
        outputs, inputs = run_on_example(backbone, [backbone])
    except CannotRun as error:
        raise ValueError(f"{kind} doesn't run on an example input, which tells its channels") from error
    found = outputs[backbone][0]
    top = found if isinstance(found, tuple) else _last_map(found)
    if not isinstance(top, tuple) or len(top) not in (4, 5):
        raise ValueError(f"{kind} returns no map, which WholeTD feeds back: graft onto a backbone")
    dims: Any = len(top) - 2
    attention = TopDownAttention(inputs[0].shape[1], top[1], mode, reduction, hidden, spatial, dims)
    record_of(backbone).flows = Flows("WholeTD", steps)
    convert_steps(backbone, steps)
    checkpoint_by_flow(backbone)
    add_child(backbone, "td", attention)
    swap_class(backbone, WholeTDMixin)
    return [attention]
