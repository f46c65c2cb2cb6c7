"""Recursive Dual-Directional Nested Structure (R2DNS): the recursion of TDAF.

Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021,
sections 3.1-3.2, eqs. 1-3 and 5, figure 2 (https://arxiv.org/abs/2012.07248).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from attn_mm.layers.anar import crop_or_resize
from attn_mm.layers.forms.tdaf import mask_in_place
from attn_mm.layers.forms.tdaf_streams import run_flows
from attn_mm.layers.ops.execution import run_in_flow
from attn_mm.layers.recording import Attention, AttentionKind

_AVG_POOL = {4: F.avg_pool2d, 5: F.avg_pool3d}

MASK = AttentionKind(
    "TDAF mask",
    "Pang et al., TDAF, AAAI 2021, eq. 5",
    "The flow before, which saw a smaller image, made it; this flow's features are multiplied by it, plus "
    "eta (0.5 in the paper), at this position.",
    leads_to="flow",
)


def masks_as_attention(masks: dict[tuple[int, int], Tensor]) -> list[Attention]:
    """Convert the ``masks`` of :func:`r2dns` for a layer's ``recorded``; stages then count from 1."""
    return [
        Attention(MASK, mask, {"stage": stage + 1, "flow": flow}) for (stage, flow), mask in masks.items()
    ]


def attention_as_masks(found: list[Attention]) -> dict[tuple[int, int], Tensor]:
    """Undo :func:`masks_as_attention`; stages count from 0, flows from 1."""
    return {(item.place["stage"] - 1, item.place["flow"]): item.values for item in found}


def downsample(x: Tensor) -> Tensor:
    """Halve ``x`` ``(N, C, *size)`` in every spatial dimension; odd sizes round up (eq. 2).

    Averages cells 2 wide; on even sizes this equals linear interpolation by 1/2. On odd
    sizes the last cell is narrower, so that cell i still covers pixels 2i and 2i + 1 and
    the mask of a smaller flow covers the pixels it was computed from.
    """
    if x.dim() not in _AVG_POOL:
        raise ValueError(f"expected maps of 2 or 3 dimensions, got {x.dim() - 2}")
    cell = [min(2, s) for s in x.shape[2:]]
    return _AVG_POOL[x.dim()](x, cell, ceil_mode=True, count_include_pad=False)


def pyramid(x: Tensor, num_flows: int) -> list[Tensor]:
    """Inputs of all flows, first flow first; the last flow's input is ``x`` ``(N, C, *size)`` (eq. 2)."""
    inputs = [x]
    for _ in range(num_flows - 1):
        inputs.insert(0, downsample(inputs[0]))
    return inputs


def check_recursion(
    num_stages: int, num_flows: int, num_attentions: int, eta: float, first_mask: str
) -> None:
    """Raise ValueError unless the options are valid for :class:`R2DNS`."""
    if not 2 <= num_flows <= num_stages:
        raise ValueError(f"num_flows must be in 2..{num_stages} (the number of stages), got {num_flows}")
    if num_attentions != num_stages - 1:
        raise ValueError(
            f"{num_stages} stages require {num_stages - 1} attentions (none after the last), "
            f"got {num_attentions}"
        )
    if isinstance(eta, bool) or not isinstance(eta, (int, float)) or not 0 <= eta <= 1:
        raise ValueError(f"eta must be a number in 0..1, got {eta!r}")
    if first_mask not in ("none", "ones"):
        raise ValueError(f"first_mask must be 'none' or 'ones', got {first_mask!r}")


def r2dns(
    stages: Sequence[Callable[[Tensor], Tensor]] | nn.ModuleList,
    attentions: Sequence[Callable[[Tensor], Tensor]] | nn.ModuleList,
    x: Tensor | Sequence[Tensor],
    num_flows: int,
    eta: float = 0.5,
    first_mask: Literal["none", "ones"] = "none",
    masks: dict[tuple[int, int], Tensor] | None = None,
    in_place: bool = False,
    streams: bool = False,
) -> list[Tensor]:
    """Run the recursion of :class:`R2DNS`.

    Args:
        stages, attentions, num_flows, eta, first_mask: see :class:`R2DNS`.
        x: see :meth:`R2DNS.forward`.
        masks: a dict to fill with ``{(stage, flow): mask}``, stages counted from
            0 and flows from 1 as in the paper; the mask, ``(N, 1, *size)``,
            multiplied that flow's output of that stage.
        in_place: whether the stages' outputs, and all that shares their memory, may be overwritten,
            because only this function reads them.
        streams: whether the flows of a stage run in parallel, each on its own CUDA stream.

    Returns:
        The last flow's output of every stage, masked by eq. 5.
    """
    check_recursion(len(stages), num_flows, len(attentions), eta, first_mask)
    features: list[Any] = pyramid(x, num_flows) if isinstance(x, Tensor) else list(x)
    if len(features) != num_flows:
        raise ValueError(f"{num_flows} flows require one input each, got {len(features)}")
    outputs = []
    stage: Any
    for index, stage in enumerate(stages):
        # Eq. 1: flow n (from 0 here) has L - (N - 1 - n) stages.
        first = max(0, num_flows - len(stages) + index)
        features[:first] = [None] * first
        run_flows(stage, features, first, streams)
        if first_mask == "ones":
            features[first] = features[first] * (1 + eta)
        for n in range(first + 1, num_flows):
            mask = run_in_flow(n - 1, attentions[index], features[n - 1])
            mask = crop_or_resize(mask, features[n].shape[2:])
            if masks is not None:
                masks[index, n + 1] = mask
            mask = mask + eta
            # With eta = 0 a mask may be close to 0, and the in-place backward divides by it.
            features[n] = mask_in_place(features[n], mask) if in_place and eta else features[n] * mask
        outputs.append(features[-1])
    return outputs


class R2DNS(nn.Module):
    r"""Run shared stages in ``num_flows`` passes (flows), each masked by the attention of the previous one.

    With L stages, flow n = 1..N runs the first L - (N - n) of them (eq. 1) on an
    input 2^(N - n) times smaller (eq. 2), and

    .. math:: x_{l+1}^{(n)} = h_l[x_l^{(n)}] * (g_l[x_{l+1}^{(n-1)}] + \eta)   \quad (5)

    if flow n - 1 has that stage. All flows run a stage before any runs the next
    stage (paper, "On Time Overhead").

    Multi-flow batch norms in stages and attentions use the running flow's statistics;
    :func:`attn_mm.layers.convert_multi_flow` makes plain batch norms multi-flow.

    Args:
        stages: L callables ``h_l``, each ``(N, C, *size)`` -> ``(N, C', *size')``.
        attentions: L - 1 callables ``g_l`` (:class:`attn_mm.layers.ANAR`), each
            returning ``(N, 1, *(2 * size))``. The last stage has none.
        num_flows: N, between 2 and L.
        eta: the shortcut of eq. 5, in 0..1; the paper uses 0.5.
        first_mask: what multiplies the output of the first flow of each stage:
            ``'none'``, nothing (eq. 3 with g = 1), or ``'ones'``, 1 + eta (eq. 5
            with g = 1).

    Raises:
        ValueError: N is not in 2..L, there are not L - 1 attentions, ``eta`` is not in
            0..1, or ``first_mask`` is unknown.
    """

    def __init__(
        self,
        stages: Sequence[Callable[[Tensor], Tensor]],
        attentions: Sequence[Callable[[Tensor], Tensor]],
        num_flows: int,
        eta: float = 0.5,
        first_mask: Literal["none", "ones"] = "none",
    ) -> None:
        super().__init__()
        check_recursion(len(stages), num_flows, len(attentions), eta, first_mask)
        self.stages = nn.ModuleList(map(_as_module, stages))
        self.attentions = nn.ModuleList(map(_as_module, attentions))
        self.num_flows = num_flows
        self.eta = eta
        self.first_mask: Literal["none", "ones"] = first_mask

    def extra_repr(self) -> str:
        return f"num_flows={self.num_flows}, eta={self.eta}, first_mask={self.first_mask!r}"

    def forward(self, x: Tensor | Sequence[Tensor], return_masks: bool = False):
        """Compute the last flow's output of every stage for ``x``, ``(N, C, *size)`` of any size.

        Args:
            x: the last flow's input, which is downsampled for the other flows (eq. 2); or N inputs,
                flow 1's first, which are used unchanged.
            return_masks: whether to return the masks too.

        Returns:
            A list of L tensors; with ``return_masks``, that list and
            ``{(stage from 0, flow from 1): mask (N, 1, *size)}``.
        """
        masks: dict[tuple[int, int], Tensor] | None = {} if return_masks else None
        outputs = r2dns(self.stages, self.attentions, x, self.num_flows, self.eta, self.first_mask, masks)
        return (outputs, masks) if return_masks else outputs

    def recorded(self, run, x, return_masks: bool = False):
        """See :mod:`attn_mm.layers.recording`."""
        outputs, masks = run(x, True)
        return (outputs, masks) if return_masks else outputs, masks_as_attention(masks)


class _Function(nn.Module):
    """Wrap a plain callable as a module, for a module list."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _as_module(stage: Callable[[Tensor], Tensor]) -> nn.Module:
    return stage if isinstance(stage, nn.Module) else _Function(stage)
