"""Pre-activation ResNet for 32x32 images, optionally with the global feature of "Learn To Pay Attention".

He et al., Identity Mappings in Deep Residual Networks, ECCV 2016
(https://arxiv.org/abs/1603.05027), and Jetley et al., Learn To Pay Attention,
ICLR 2018, appendix A.2 (https://arxiv.org/abs/1804.02391).
"""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from attn_mm.registry import MODELS

_WIDTHS = (64, 128, 256)


class _Activation(nn.Sequential):
    """BN and ReLU, which precede the convolution in this network."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class _Bottleneck(nn.Module):
    """Compute x + conv1x1(act(conv3x3(act(conv1x1(act(x)))))); inner maps have a quarter of the width."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        width = out_channels // 4
        self.act1 = _Activation(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, stride, bias=False)
        self.act2 = _Activation(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.act3 = _Activation(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(x)
        # Where the width changes, both branches start from the activation.
        shortcut = x if self.shortcut is None else self.shortcut(y)
        return self.conv3(self.act3(self.conv2(self.act2(self.conv1(y))))) + shortcut


@MODELS.register_module()
class PreActResNet(BaseModule):
    """Pre-activation ResNet of bottlenecks in three stages: 64, 128, 256 channels at size 32, 16, 8.

    Without ``levels`` it is the baseline, for a ``GlobalAveragePooling`` neck. With
    ``levels``, convolutional and max-pooling steps replace the final pooling and
    compute the global feature g, for ``attn_mm.LTPAHead``: RN-164-att is ``levels=(3,)``,
    RN-164-att2 ``levels=(2, 3)``. The local features are the stages' outputs before
    the next activation, as in the authors' released code.

    Args:
        depth: 9 n + 2 for n blocks per stage; 164 in the paper.
        levels: stages whose outputs are returned as local features, in ascending order.
        dropout: dropout rates after g's convolution and before g's linear layer. The released
            RN-164-att has none; -att2 has (0.4, 0.5).
        init_cfg: as in mmengine; by default convolutions are Kaiming-normal by fan-out.

    Raises:
        ValueError: ``depth`` is not 9 n + 2, or ``levels`` is not an ascending choice of 1, 2, 3.
    """

    def __init__(
        self,
        depth: int = 164,
        levels: Sequence[int] = (),
        dropout: tuple[float, float] = (0.0, 0.0),
        init_cfg: dict | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = dict(type="Kaiming", layer="Conv2d", mode="fan_out", nonlinearity="relu")
        super().__init__(init_cfg)
        blocks, rest = divmod(depth - 2, 9)
        if blocks < 1 or rest:
            raise ValueError(f"depth must be 9 n + 2 (11, 20, ..., 164), got {depth}")
        if list(levels) != sorted({1, 2, 3} & set(levels)):
            raise ValueError(f"levels must be an ascending choice of 1, 2 and 3, got {levels!r}")
        self.levels = tuple(levels)
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        channels, stages = 16, []
        for index, width in enumerate(_WIDTHS):
            stride = 1 if index == 0 else 2
            stage = [_Bottleneck(channels, width, stride)]
            stage += [_Bottleneck(width, width, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*stage))
            channels = width
        self.stages = nn.ModuleList(stages)
        self.act = _Activation(channels)
        self.query = _Query(channels, *dropout) if levels else None

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute, from ``(N, 3, H, W)``, the chosen levels' maps and g ``(N, 256)``.

        Without levels it returns the activated last map only.
        """
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        last = self.act(x)
        if self.query is None:
            return (last,)
        return (*(maps[level - 1] for level in self.levels), self.query(last))


class _Query(nn.Module):
    """The global feature g: pooling, 3x3 convolution with bias, BN, ReLU, global max-pooling, linear."""

    def __init__(self, channels: int, conv_dropout: float, linear_dropout: float) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = _Activation(channels)
        self.conv_dropout = nn.Dropout(conv_dropout)
        self.linear_dropout = nn.Dropout(linear_dropout)
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``(N, C)`` from ``(N, C, h, w)``."""
        x = self.conv_dropout(self.act(self.conv(self.pool(x))))
        return self.linear(self.linear_dropout(x.amax((-2, -1))))
