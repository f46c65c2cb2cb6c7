"""Attention-augmented convolution.

Bello, Zoph, Vaswani, Shlens, Le: Attention Augmented Convolutional Networks,
ICCV 2019, section 3, eqs. 1-6 (https://arxiv.org/abs/1904.09925).

A convolution computes some of the output channels; multi-head self-attention over
all positions, with learned relative positions, computes the others:

    o_i = sum_j softmax_j(q_i . (k_j + r^W_{jx - ix} + r^H_{jy - iy}) / sqrt(d)) v_j

In the paper's listing the output projection has a bias as well. Here it has none:
attention weights sum to 1, so this bias would only repeat the values' bias.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from attn_mm.layers.ops.execution import is_traced, is_transformed, shortcuts_enabled
from attn_mm.layers.recording import Attention, AttentionKind

RECEIVED = AttentionKind(
    "AA: attention received",
    "Bello et al., Attention Augmented Convolutional Networks, ICCV 2019, eq. 1",
    "The weight of this position in the self-attention's averages: the mean over all positions that look; "
    "a head's values sum to 1.",
    bounds=None,
)


def attention_channels(amount: float | int, out_channels: int, heads: int, name: str) -> int:
    """Number of channels over all heads; a ratio of ``out_channels`` is rounded to whole channels per head.

    Args:
        amount: an integer number of channels, or a float ratio in (0, 1).
        out_channels: output channels of the whole layer.
        heads: number of attention heads.
        name: name of the option, for the error message.

    Raises:
        ValueError: a number that ``heads`` does not divide, or a ratio outside (0, 1).
    """
    if isinstance(amount, float):
        if not 0 < amount < 1:
            raise ValueError(f"{name} as a ratio must be between 0 and 1, got {amount}")
        return heads * max(1, round(amount * out_channels / heads))
    if amount < 1 or amount % heads:
        raise ValueError(f"{name} must be a positive multiple of {heads} heads, got {amount}")
    return amount


class AAConv2d(nn.Module):
    """Convolution and self-attention in parallel: ``(N, C1, H, W)`` -> ``(N, C2, H', W')``.

    ``conv`` computes the first ``C2 - dv`` output channels and the attention the other ``dv``. ``qkv``, a
    convolution with the same stride, computes queries, keys and values; ``out``, a 1x1 convolution, mixes
    the heads.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation: as in ``torch.nn.Conv2d``;
            ``out_channels`` counts both parts together.
        groups: groups of the convolution; the attention always sees all channels.
        bias: whether the convolution has a bias.
        shape: ``(H', W')``, the size of the output map; relative positions work for this size only.
        dk, dv: channels of the keys and of the values over all heads. A float is a ratio of
            ``out_channels`` (the paper's kappa and upsilon), rounded to whole channels per head.
        heads: number of attention heads.
        min_key_channels: least channels of a head's keys; a smaller ``dk`` is raised to it. The paper's
            networks have at least 20.
        relative: whether to add the logits of relative positions (section 3.2.1). Without them
            the attention ignores positions and accepts maps of any size.
        qkv_kernel_size: kernel size of ``qkv``; 1 in the paper.
        qkv_bias: whether queries, keys and values have biases.

    Raises:
        ValueError: ``relative`` without ``shape``, channels that ``heads`` doesn't divide, no channels left
            for the convolution, ``min_key_channels`` below 1, or a padding that gives the two parts different
            sizes. The forward pass raises it if the output map's size is not ``shape``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        shape: int | tuple[int, int] | None = None,
        dk: float | int = 0.2,
        dv: float | int = 0.1,
        heads: int = 8,
        min_key_channels: int = 1,
        relative: bool = True,
        qkv_kernel_size: int | tuple[int, int] = 1,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        if relative and shape is None:
            raise ValueError("relative=True requires shape=(H, W), the size of the output map")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)
        self.groups = groups
        self.shape: tuple[int, int] | None = None if shape is None else _pair(shape)
        self.heads = heads
        self.relative = relative
        if type(min_key_channels) is not int or min_key_channels < 1:
            raise ValueError(f"min_key_channels must be a positive whole number, got {min_key_channels!r}")
        self.dk = max(attention_channels(dk, out_channels, heads, "dk"), heads * min_key_channels)
        self.dv = attention_channels(dv, out_channels, heads, "dv")
        if self.dv >= out_channels:
            raise ValueError(f"dv = {self.dv} must be less than out_channels = {out_channels}")
        common = dict(stride=self.stride, dilation=self.dilation)
        self.conv = nn.Conv2d(
            in_channels,
            out_channels - self.dv,
            self.kernel_size,
            padding=self.padding,
            groups=groups,
            bias=bias,
            **common,
        )
        qkv_kernel: tuple[int, int] = _pair(qkv_kernel_size)
        self.qkv = nn.Conv2d(
            in_channels,
            2 * self.dk + self.dv,
            qkv_kernel,
            padding=self._qkv_padding(qkv_kernel),
            bias=qkv_bias,
            **common,
        )
        self.out = nn.Conv2d(self.dv, self.dv, 1, bias=False)
        if self.shape is not None and relative:
            height, width = self.shape
            depth = self.dk // heads
            self.relative_height = nn.Parameter(torch.empty(2 * height - 1, depth))
            self.relative_width = nn.Parameter(torch.empty(2 * width - 1, depth))
            self._reset_positions()

    def _qkv_padding(self, kernel_size: tuple[int, int]) -> tuple[int, int]:
        """The padding of ``qkv`` that gives the same output size as the convolution."""
        twice = [
            2 * p + d * (own - k)
            for p, d, own, k in zip(self.padding, self.dilation, kernel_size, self.kernel_size)
        ]
        if any(p < 0 or p % 2 for p in twice):
            raise ValueError(
                f"with kernel_size {self.kernel_size} and padding {self.padding}, queries, keys and values "
                f"of kernel {kernel_size} can't match the convolution's output size: "
                "use 'same' padding or the same kernel"
            )
        return twice[0] // 2, twice[1] // 2

    def _reset_positions(self) -> None:
        for embedding in (self.relative_height, self.relative_width):
            nn.init.normal_(embedding, std=embedding.shape[1] ** -0.5)

    def reset_parameters(self) -> None:
        """Initialise convolutions as torch does, embeddings as N(0, std d^-1/2) (the paper's listing)."""
        for conv in (self.conv, self.qkv, self.out):
            conv.reset_parameters()
        if self.relative:
            self._reset_positions()

    def extra_repr(self) -> str:
        return f"dk={self.dk}, dv={self.dv}, heads={self.heads}, relative={self.relative}, shape={self.shape}"

    def _relative_logits(self, q: Tensor) -> Tensor:
        """Eq. 3's position terms for scaled queries ``(N, heads, HW, d)``: ``(N, heads, HW, HW)``."""
        assert self.shape is not None
        height, width = self.shape
        # Window t of an embedding holds what the query at position t, counted from the end, sees.
        rows = self.relative_height.unfold(0, height, 1).flip(0)
        columns = self.relative_width.unfold(0, width, 1).flip(0)
        q = q.unflatten(2, (height, width))
        by_row = torch.einsum("nhyxd,ydt->nhyxt", q, rows)
        by_column = torch.einsum("nhyxd,xdt->nhyxt", q, columns)
        return (by_row.unsqueeze(-1) + by_column.unsqueeze(-2)).flatten(4).flatten(2, 3)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Scaled queries, keys, values ``(N, heads, H'W', d)`` and the relative logits or None."""
        qkv = self.qkv(x)
        size = tuple(qkv.shape[2:])
        if self.relative and size != self.shape:
            raise ValueError(
                f"shape is {self.shape}, "
                f"but the input {tuple(x.shape[2:])} gives an output map of {size}: resize it, or set shape"
            )
        q, k, v = (
            part.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
            for part in qkv.split((self.dk, self.dk, self.dv), dim=1)
        )
        q = q * (self.dk // self.heads) ** -0.5
        return q, k, v, self._relative_logits(q) if self.relative else None

    def attention(self, x: Tensor) -> Tensor:
        """The attention weights ``(N, heads, H'W', H'W')``; row i weights the values of position i."""
        q, k, _, bias = self._heads(x)
        return _weights(q, k, bias)

    def recorded(self, run, x: Tensor) -> tuple[Tensor, list[Attention]]:
        """See :mod:`attn_mm.layers.recording`; records :meth:`attention` averaged over rows, per head."""
        output = run(x)
        q, k, _, bias = self._heads(x)
        found = []
        for head in range(self.heads):
            one = slice(head, head + 1)
            # One head at a time: the weights of all heads may need gigabytes.
            received = _weights(q[:, one], k[:, one], None if bias is None else bias[:, one]).mean(2)
            values = received.unflatten(2, output.shape[2:])
            found.append(Attention(RECEIVED, values, {"head": head + 1}))
        return output, found

    @classmethod
    def without_attention(cls, config: dict) -> dict:
        """See :mod:`attn_mm.describe.without_attention`; returns the plain convolution for ``conv_cfg``."""
        return {"type": "Conv2d"}

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv(x)
        q, k, v, bias = self._heads(x)
        if shortcuts_enabled() and (is_traced() or not is_transformed()):
            heads = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        else:
            heads = _weights(q, k, bias) @ v
        heads = heads.transpose(2, 3).flatten(1, 2).unflatten(2, conv.shape[2:])
        return torch.cat((conv, self.out(heads)), dim=1)


def _weights(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    logits = q @ k.transpose(2, 3)
    return (logits if bias is None else logits + bias).softmax(-1)
