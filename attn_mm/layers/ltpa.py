"""Learn to pay attention: local features chosen by their compatibility with a global one.

Jetley et al., Learn To Pay Attention, ICLR 2018, section 3 (https://arxiv.org/abs/1804.02391).
The sigmoid gate is the progressive attention of Seo et al., Hierarchical Attention Networks,
2016 (https://arxiv.org/abs/1606.02393), as appendix A.2 of the former rebuilds it.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_mm.layers.ops.dims import check_dims, conv_class, per_channel
from attn_mm.layers.ops.execution import shortcuts_enabled
from attn_mm.layers.recording import Attention, AttentionKind

WEIGHTS = AttentionKind(
    "LTPA map",
    "Jetley et al., Learn To Pay Attention, ICLR 2018, eq. 1",
    "The share of this position in the mean of the local features; a map's values are positive and sum to 1.",
    bounds=None,
)
GATE = AttentionKind(
    "Progressive attention gate",
    "Seo et al., Hierarchical Attention Networks, 2016, as Jetley et al., ICLR 2018, appendix A.2",
    "What the local features are multiplied by at this position.",
)


class ParametrisedCompatibility(nn.Module):
    """Eq. 2: c_i = <u, l_i + g>, u being a 1x1 convolution to one channel, with bias.

    Args:
        channels: C of both features.
        dims: 2 for images, 3 for video.

    Raises:
        ValueError: ``dims`` is not 2 or 3.
    """

    def __init__(self, channels: int, dims: Literal[2, 3] = 2) -> None:
        super().__init__()
        self.u = conv_class(dims)(channels, 1, 1)

    def forward(self, local: Tensor, global_: Tensor) -> Tensor:
        """``(N, C, *size)`` and ``(N, C)`` -> scores ``(N, 1, *size)``."""
        if not shortcuts_enabled():
            return self.u(local + per_channel(global_, local))
        # <u, l_i> + <u, g>: no second map of the size of the local features.
        return self.u(local) + per_channel(F.linear(global_, self.u.weight.flatten(1)), local)


class DotProductCompatibility(nn.Module):
    """Eq. 3: c_i = <l_i, g>."""

    def forward(self, local: Tensor, global_: Tensor) -> Tensor:
        """``(N, C, *size)`` and ``(N, C)`` -> scores ``(N, 1, *size)``."""
        return torch.bmm(global_.unsqueeze(1), local.flatten(2)).unflatten(2, local.shape[2:])


class LearnToPayAttention(nn.Module):
    """The local features' mean, weighted by a softmax over positions of their compatibility with g.

    The mean *replaces* g as the image's descriptor (section 3.1). ``g`` is the
    query: that of another image gives query-driven attention (appendix A.5).

    With ``'pc'`` the part <u, g> is the same at every position and the softmax
    cancels it: neither map nor vector depends on g, whose gradient is zero but
    for rounding. Appendix A.5 observes as much; ``'dp'`` follows its query.

    Args:
        local_channels: C, channels of the local features l.
        global_channels: channels of the global feature g.
        compatibility: ``'pc'``, parametrised (eq. 2), or ``'dp'``, dot product (eq. 3).
        projection: brings g to C channels. ``'linear'``: a linear layer where the
            widths differ, nothing where they agree; a module ``(N, global_channels)
            -> (N, C)``; None: nothing, the widths must agree.
        dims: 2 for images, 3 for video.

    Raises:
        ValueError: an unknown ``compatibility``, ``projection`` or ``dims``; widths
            that differ without a projection; a local feature of other than ``dims + 2``
            dimensions.
    """

    def __init__(
        self,
        local_channels: int,
        global_channels: int,
        compatibility: Literal["pc", "dp"] = "pc",
        projection: nn.Module | Literal["linear"] | None = "linear",
        dims: Literal[2, 3] = 2,
    ) -> None:
        super().__init__()
        check_dims(dims)
        if compatibility not in ("pc", "dp"):
            raise ValueError(f"compatibility must be 'pc' or 'dp', got {compatibility!r}")
        if projection == "linear":
            differ = global_channels != local_channels
            projection = nn.Linear(global_channels, local_channels) if differ else None
        elif projection is None and global_channels != local_channels:
            raise ValueError(
                f"a global feature of {global_channels} channels needs a projection to the "
                f"{local_channels} of the local features, got projection=None"
            )
        if not isinstance(projection, nn.Module | None):
            raise ValueError(f"projection must be 'linear', a module or None, got {projection!r}")
        self.dims = dims
        self.projection = projection
        self.compatibility = (
            ParametrisedCompatibility(local_channels, dims)
            if compatibility == "pc"
            else DotProductCompatibility()
        )

    def forward(self, local: Tensor, global_: Tensor) -> tuple[Tensor, Tensor]:
        """Attend ``local`` ``(N, C, *size)`` as ``global_`` ``(N, global_channels)`` asks.

        Returns:
            the vector g_a, ``(N, C)``, and the attention map, ``(N, 1, *size)``,
            whose values are positive and sum to 1 (eq. 1).
        """
        _check_local(local, self.dims)
        if self.projection is not None:
            global_ = self.projection(global_)
        attention = self.compatibility(local, global_).flatten(2).softmax(2)
        vector = torch.bmm(local.flatten(2), attention.transpose(1, 2)).squeeze(2)
        return vector, attention.unflatten(2, local.shape[2:])

    def recorded(self, run, local: Tensor, global_: Tensor) -> tuple[tuple[Tensor, Tensor], list[Attention]]:
        """See :mod:`attn_mm.layers.recording`."""
        output = run(local, global_)
        return output, [Attention(WEIGHTS, output[1])]


class ProgressiveGate(nn.Module):
    """Local features times the sigmoid of their parametrised compatibility with g (appendix A.2).

    Positions don't compete: each is filtered on its own, and the map goes on
    through the network. Here g matters, for a sigmoid has no constant to cancel.

    Args:
        channels: C of the local and of the global feature.
        dims: 2 for images, 3 for video.

    Raises:
        ValueError: an unknown ``dims``, or a local feature of other than ``dims + 2`` dimensions.
    """

    def __init__(self, channels: int, dims: Literal[2, 3] = 2) -> None:
        super().__init__()
        self.dims = dims
        self.compatibility = ParametrisedCompatibility(channels, dims)

    def forward(self, local: Tensor, global_: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, C, *size)`` and ``(N, C)`` -> gated features ``(N, C, *size)``, gate ``(N, 1, *size)``."""
        _check_local(local, self.dims)
        gate = self.compatibility(local, global_).sigmoid()
        return local * gate, gate

    def recorded(self, run, local: Tensor, global_: Tensor) -> tuple[tuple[Tensor, Tensor], list[Attention]]:
        """See :mod:`attn_mm.layers.recording`."""
        output = run(local, global_)
        return output, [Attention(GATE, output[1])]


def _check_local(local: Tensor, dims: int) -> None:
    if local.dim() != dims + 2:
        raise ValueError(f"local features must be (N, C, + {dims} sizes), got {local.dim()} dimensions")
