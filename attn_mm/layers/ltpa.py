"""Learn to pay attention (LTPA): weights local features by their compatibility with a global feature.

Jetley et al., Learn To Pay Attention, ICLR 2018, section 3 (https://arxiv.org/abs/1804.02391).
The sigmoid gate is the progressive attention of Seo et al., Hierarchical Attention Networks,
2016 (https://arxiv.org/abs/1606.02393), as reimplemented in appendix A.2 of the former.
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
    """Parametrised compatibility c_i = <u, l_i + g>, where u is a 1x1 convolution with bias (eq. 2).

    Args:
        channels: C, the channels of both features.
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
        # <u, l_i> + <u, g> needs no second map of the local features' size.
        return self.u(local) + per_channel(F.linear(global_, self.u.weight.flatten(1)), local)


class DotProductCompatibility(nn.Module):
    """Dot-product compatibility c_i = <l_i, g> (eq. 3)."""

    def forward(self, local: Tensor, global_: Tensor) -> Tensor:
        """``(N, C, *size)`` and ``(N, C)`` -> scores ``(N, 1, *size)``."""
        return torch.bmm(global_.unsqueeze(1), local.flatten(2)).unflatten(2, local.shape[2:])


class LearnToPayAttention(nn.Module):
    """Average local features, weighted by a softmax over positions of their compatibility with g.

    The average *replaces* g as the image's descriptor (section 3.1). g is the
    query: another image's g gives query-driven attention (appendix A.5).

    With ``'pc'`` the term <u, g> is the same at every position, so the softmax
    cancels it: neither the map nor the vector depends on g, and g's gradient is zero
    up to rounding. Appendix A.5 observes this; ``'dp'`` does depend on its query.

    Args:
        local_channels: C, channels of the local features l.
        global_channels: channels of the global feature g.
        compatibility: ``'pc'``, parametrised (eq. 2), or ``'dp'``, dot product (eq. 3).
        projection: how to bring g to C channels. ``'linear'``: by a linear layer if the
            numbers of channels differ. A module: ``(N, global_channels) -> (N, C)``.
            None: not at all; the numbers of channels must be equal.
        dims: 2 for images, 3 for video.

    Raises:
        ValueError: an unknown ``compatibility``, ``projection`` or ``dims``; different
            numbers of channels without a projection. The forward pass raises it if the
            local features don't have ``dims + 2`` dimensions.
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
                f"a global feature of {global_channels} channels requires a projection to the "
                f"{local_channels} local_channels, got projection=None: use 'linear' or a module"
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
        """Attend to ``local`` ``(N, C, *size)`` with the query ``global_`` ``(N, global_channels)``.

        Returns:
            The vector g_a, ``(N, C)``, and the attention map, ``(N, 1, *size)``,
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
    """Multiply local features by the sigmoid of their parametrised compatibility with g (appendix A.2).

    Positions don't compete: each is gated on its own, and the gated map continues
    through the network. Here g matters, because a sigmoid doesn't cancel a constant.

    Args:
        channels: C, the channels of both the local and the global features.
        dims: 2 for images, 3 for video.

    Raises:
        ValueError: an unknown ``dims``, or local features that don't have ``dims + 2`` dimensions.
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
        raise ValueError(f"local features must be (N, C, and {dims} sizes), got {local.dim()} dimensions")
