"""Top-down attention (TD): a layer's output modulates its input at the next computation step.

Jaiswal, Fernando & Tan, TDAM: Top-Down Attention Module for Contextually Guided Feature
Selection in CNNs, ECCV 2022 (https://arxiv.org/abs/2111.13470, there first as TDAN: Top-Down
Attention Networks), section 3, eqs. 2-8.

With t and b, the average-pooled top and bottom maps of a step,

    s = W_s ReLU[W_t t; W_b b]    joint attention (eq. 4)
    s = W_s ReLU[W_t t]           top attention (eq. 5)

and the bottom map x gives the next step's bottom by

    x' = x * sigmoid(s)           channels (eq. 6)
    A  = sum_c s_c x'_c           a 1x1 convolution with the searchlight (eq. 7)
    x  = x' * sigmoid(A)          positions (eq. 8)

The paper and the authors' released code differ in two points. The code's version is the
default, because the published weights and parameter counts come from the code:

* The searchlight of eq. 7. Eqs. 4 and 5 include the sigmoid in the searchlight, so that
  eq. 7 uses sigmoid(s): ``spatial='sigmoid'``. The code uses s itself: ``'raw'``.
* The hidden width of W_b. In eq. 4 it is C_0/r, and W_s is C_0 x (C_N + C_0)/r:
  ``hidden='paper'``. In the code it is C_N/r like that of W_t, and W_s is
  C_0 x 2C_N/r: ``'code'``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from attn_mm.layers.ops.pooled_conv import pooled_conv_class
from attn_mm.layers.recording import Attention, AttentionKind

_PAPER = "Jaiswal et al., TDAM, ECCV 2022"
CHANNELS = AttentionKind(
    "TD searchlight: what",
    f"{_PAPER}, eq. 6",
    "sigmoid(s): what this step's output multiplies each channel of the next step's input by.",
    over="channels",
    leads_to="step",
)
POSITIONS = AttentionKind(
    "TD searchlight: where",
    f"{_PAPER}, eqs. 7-8",
    "sigmoid(A): what this step's output multiplies the next step's input by at this position.",
    leads_to="step",
)


class TopDownAttention(nn.Module):
    """Compute the next step's bottom map from a bottom and a top feature map: one feedback step.

    The submodules ``top_mlp``, ``bottom_mlp`` (joint attention only) and ``mlp`` are
    the 1x1 convolutions W_t, W_b and W_s without biases. The maps may have any size,
    and top and bottom may have different sizes.

    Args:
        bottom_channels: C_0, channels of the map that is modulated.
        top_channels: C_N, channels of the map that is fed back.
        mode: ``'joint'`` computes the searchlight from top and bottom (eq. 4),
            ``'top'`` from the top alone (eq. 5).
        reduction: r; the hidden width is C_N // r.
        hidden: width of W_b's output: ``'code'``, C_N // r, or ``'paper'``, C_0 // r.
            No effect with ``mode='top'``, which has no W_b.
        spatial: searchlight in eq. 7: ``'raw'``, s, or ``'sigmoid'``, sigmoid(s).
        dims: 2 for images, 3 for video.

    Raises:
        ValueError: an unknown ``mode``, ``hidden``, ``spatial`` or ``dims``, or a
            ``reduction`` that leaves no hidden channel.
    """

    recorded_call = "modulate"

    def __init__(
        self,
        bottom_channels: int,
        top_channels: int,
        mode: Literal["joint", "top"] = "joint",
        reduction: int = 16,
        hidden: Literal["code", "paper"] = "code",
        spatial: Literal["raw", "sigmoid"] = "raw",
        dims: Literal[2, 3] = 2,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("mode", mode, ("joint", "top")),
            ("hidden", hidden, ("code", "paper")),
            ("spatial", spatial, ("raw", "sigmoid")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be {known[0]!r} or {known[1]!r}, got {value!r}")
        conv = pooled_conv_class(dims)
        of_top = _hidden_width(top_channels, reduction)
        of_bottom = 0
        if mode == "joint":
            of_bottom = of_top if hidden == "code" else _hidden_width(bottom_channels, reduction)
        self.spatial = spatial
        self.dims = dims
        self.top_mlp = conv(top_channels, of_top, 1, bias=False)
        self.bottom_mlp = conv(bottom_channels, of_bottom, 1, bias=False) if of_bottom else None
        self.mlp = conv(of_top + of_bottom, bottom_channels, 1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise by Kaiming, fan-out, as ResNets do; the paper doesn't specify it."""
        for conv in self.children():
            nn.init.kaiming_normal_(conv.get_parameter("weight"), mode="fan_out", nonlinearity="relu")

    def extra_repr(self) -> str:
        return f"spatial={self.spatial!r}"

    def forward(self, bottom: Tensor, top: Tensor) -> Tensor:
        """Compute the next step's bottom map.

        Args:
            bottom: this step's bottom map, ``(N, C_0, *size)``.
            top: this step's top map, ``(N, C_N, *any_size)``.

        Returns:
            The next step's bottom map, ``(N, C_0, *size)``.
        """
        return self.modulate(bottom, top.mean(self._space))

    def modulate(self, bottom: Tensor, pooled_top: Tensor) -> Tensor:
        """Do as :meth:`forward` for an average-pooled top, ``(N, C_N)`` or ``(N, C_N, 1, 1)``."""
        _, positions, scaled = self._attend(bottom, pooled_top)
        return scaled * positions

    def searchlight(self, bottom: Tensor, pooled_top: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the factors by which :meth:`modulate` multiplies ``bottom``.

        Returns:
            sigmoid(s), ``(N, C_0, 1, 1)``, and sigmoid(A), ``(N, 1, *size)``; one more
            dimension each for video.
        """
        channels, positions, _ = self._attend(bottom, pooled_top)
        return channels, positions

    def recorded(self, run, bottom: Tensor, pooled_top: Tensor) -> tuple[Tensor, list[Attention]]:
        """See :mod:`attn_mm.layers.recording`."""
        channels, positions = self.searchlight(bottom, pooled_top)
        found = [Attention(CHANNELS, channels), Attention(POSITIONS, positions)]
        return run(bottom, pooled_top), found

    def opened(self, run, bottom: Tensor, pooled_top: Tensor) -> Tensor:
        """See :mod:`attn_mm.layers.recording`."""
        return bottom

    @property
    def _space(self) -> tuple[int, ...]:
        return tuple(range(-self.dims, 0))

    def _attend(self, bottom: Tensor, pooled_top: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """sigmoid(s), sigmoid(A) and x'."""
        hidden = self.top_mlp(pooled_top.reshape(*pooled_top.shape[:2], *[1] * self.dims)).relu()
        if self.bottom_mlp is not None:
            pooled_bottom = bottom.mean(self._space, keepdim=True)
            hidden = torch.cat([hidden, self.bottom_mlp(pooled_bottom).relu()], dim=1)
        logits = self.mlp(hidden)
        channels = logits.sigmoid()
        scaled = bottom * channels
        searchlight = logits if self.spatial == "raw" else channels
        # A matrix product reads x' once; s * x' would be written to memory before it is summed.
        searchlight = searchlight.flatten(1).unsqueeze(1).to(scaled.dtype)
        positions = torch.bmm(searchlight, scaled.flatten(2)).unflatten(2, bottom.shape[2:])
        return channels, positions.sigmoid(), scaled


def _hidden_width(channels: int, reduction: int) -> int:
    if not 1 <= reduction <= channels:
        raise ValueError(f"reduction must be in 1..{channels} (the channels it reduces), got {reduction}")
    return channels // reduction
