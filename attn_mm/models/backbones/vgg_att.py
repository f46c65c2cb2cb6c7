"""The VGG networks of "Learn To Pay Attention", for images of 32x32 and 80x80.

Jetley et al., Learn To Pay Attention, ICLR 2018, section 4 and appendix A.2
(https://arxiv.org/abs/1804.02391). The baseline is VGG16 with batch norm and
dropout (https://github.com/szagoruyko/cifar.torch). The attention networks move
its first two poolings to the end, after two additional convolutions, so that the
attended maps are finer:

=====  ==============  =====================================  ==============
part   convolutions    at an input of 32x32 (80x80)           local features
=====  ==============  =====================================  ==============
1-3    conv1-conv7     32x32 (80x80)                          l1, 256
4      conv8-conv10    16x16                                  l2, 512
5      conv11-conv13   8x8                                    l3, 512
query  conv14, conv15  4x4, 2x2, then pooled, linear          g, 512
=====  ==============  =====================================  ==============

What the paper doesn't specify (dropout rates, the BN's eps, where PAN's first query
comes from) follows the authors' released code; the published numbers of parameters
match it exactly.

Use :class:`VGGAtt` and :class:`VGGPAN` with ``attn_mm.LTPAHead``, :class:`VGG` with
mmpretrain's ``LinearClsHead``, and :class:`VGGGAP` with mmpretrain's
``GlobalAveragePooling`` and ``LinearClsHead``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from attn_mm.graft.options import check_whole
from attn_mm.layers.ltpa import ProgressiveGate
from attn_mm.registry import MODELS

# Of each group: its channels in multiples of the first one's, and its convolutions.
_GROUPS = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
_INIT = dict(type="Kaiming", layer="Conv2d", mode="fan_out", nonlinearity="relu")


def _conv(in_channels: int, out_channels: int, dropout: float = 0.0) -> list[nn.Module]:
    """3x3 convolution with bias, BN, ReLU, and dropout if its rate is not 0."""
    layers = [
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels, eps=1e-3),
        nn.ReLU(inplace=True),
    ]
    return [*layers, nn.Dropout(dropout)] if dropout else layers


def _pool(size: int = 2) -> nn.MaxPool2d:
    return nn.MaxPool2d(size, ceil_mode=True)


class _Groups(BaseModule):
    """The 13 convolutions shared by all these networks, in five groups."""

    def __init__(self, width: int = 64, init_cfg: dict | None = None) -> None:
        super().__init__(_INIT if init_cfg is None else init_cfg)
        check_whole("width", width, 1)
        channels, groups = 3, []
        for index, (multiple, count) in enumerate(_GROUPS):
            layers = []
            for position in range(1, count + 1):
                rate = 0.0 if position == count else 0.3 if index == 0 else 0.4
                layers += _conv(channels, multiple * width, rate)
                channels = multiple * width
            groups.append(nn.Sequential(*layers))
        self.groups = nn.ModuleList(groups)
        self.channels = channels


@MODELS.register_module()
class VGG(_Groups):
    """VGG16 with batch norm and dropout, up to the input of its last linear layer.

    The last pooling covers the remaining map: 2x2 for an input of 32x32, 5x5 for 80x80
    (where the authors' released file pools once more, before conv13).

    Args:
        width: channels of the first group, 64 in the paper; the others have 2, 4, 8 and 8 times as many. The
            head's channels are 8 times the width, those of level 1 of :class:`VGGAtt` 4 times. The shapes
            below are those of width 64.
        init_cfg: as in mmengine; by default convolutions are Kaiming-normal by fan-out.

    Raises:
        ValueError: ``width`` is not a positive whole number.
    """

    def __init__(self, width: int = 64, init_cfg: dict | None = None) -> None:
        super().__init__(width, init_cfg)
        self.pool = _pool()
        self.fc = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(self.channels, self.channels),
            nn.BatchNorm1d(self.channels),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
        )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Compute one descriptor, ``(N, 512)``, from ``(N, 3, H, W)``."""
        *first, last = self.groups
        for group in first:
            x = self.pool(group(x))
        return (self.fc(last(x).amax((-2, -1))),)


class _FineGroups(_Groups):
    """The groups as in the attention networks: no pooling up to l1, one before l2 and one before l3."""

    def __init__(self, first_pool: Literal[2, 5] = 2, width: int = 64, init_cfg: dict | None = None) -> None:
        super().__init__(width, init_cfg)
        if first_pool not in (2, 5):
            raise ValueError(f"first_pool must be 2 (inputs of 32x32) or 5 (of 80x80), got {first_pool!r}")
        self.first_pool = _pool(first_pool)
        self.pool = _pool()

    def l1(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W)`` -> ``(N, 256, H, W)``."""
        for group in self.groups[:3]:
            x = group(x)
        return x

    def l2(self, l1: Tensor) -> Tensor:
        """l1 -> ``(N, 512, H / first_pool, W / first_pool)``."""
        return self.groups[3](self.first_pool(l1))

    def l3(self, l2: Tensor) -> Tensor:
        """l2 -> ``(N, 512, h / 2, w / 2)``."""
        return self.groups[4](self.pool(l2))


class _GlobalMaxPool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.amax((-2, -1))


def _query(channels: int, first_pool: int = 2) -> nn.Sequential:
    """Make the layers from local features ``(N, C, h, w)`` to the global feature g ``(N, C)``.

    They are pooling, conv14, pooling, conv15, pooling, linear. The last pooling covers the remaining
    map: 2x2 for inputs of 32x32 and of 80x80.
    """
    return nn.Sequential(
        _pool(first_pool),
        *_conv(channels, channels, 0.4),
        _pool(),
        *_conv(channels, channels, 0.4),
        _GlobalMaxPool(),
        nn.Dropout(0.5),
        nn.Linear(channels, channels),
    )


def _pool_to_two_fifths(x: Tensor) -> Tensor:
    """Pool ``(N, C, 5 h, 5 w)`` to ``(N, C, 2 h, 2 w)`` like ``adaptive_max_pool2d``, which ONNX lacks.

    The windows start at 0, 2.5, 5, ..., rounded down, and are 3 wide.
    """
    if x.shape[2] % 5 or x.shape[3] % 5:
        raise ValueError(
            f"level 1 with first_pool=5 requires image sizes divisible by 5, got {tuple(x.shape[2:])}"
        )
    rows, columns = (torch.arange(size * 2 // 5, device=x.device) * 5 // 2 for size in x.shape[2:])
    return F.max_pool2d(x, 3, stride=1)[:, :, rows][..., columns]


@MODELS.register_module()
class VGGAtt(_FineGroups):
    """The attention VGG: VGG-att, -att2 or -att3, depending on ``levels``.

    Args:
        levels: which of l1, l2, l3 to return, in ascending order: ``(3,)`` is VGG-att,
            ``(2, 3)`` VGG-att2, ``(1, 2, 3)`` VGG-att3.
        first_pool: size and stride of the first pooling: 2 for 32x32, 5 for 80x80
            (CUB-200-2011). The parameters are the same, so weights learned at 32x32
            load. With 5, l1 is returned after an adaptive max pooling to 32x32; pooling
            that by 2 would give the same l2.
        width: see :class:`VGG`.
        init_cfg: as in mmengine; by default convolutions are Kaiming-normal by fan-out.

    Raises:
        ValueError: ``levels`` is not an ascending choice of 1, 2, 3; an unknown ``first_pool``; ``width`` is
            not a positive whole number; with ``first_pool=5`` and level 1, images whose sizes are not
            multiples of 5.
    """

    def __init__(
        self,
        levels: Sequence[int] = (3,),
        first_pool: Literal[2, 5] = 2,
        width: int = 64,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(first_pool, width, init_cfg)
        if not levels or list(levels) != sorted({1, 2, 3} & set(levels)):
            raise ValueError(f"levels must be an ascending choice of 1, 2 and 3, got {levels!r}")
        self.levels = tuple(levels)
        self.query = _query(self.channels)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the chosen levels' maps, then g ``(N, 512)``, from ``(N, 3, H, W)``."""
        l1 = self.l1(x)
        l2 = self.l2(l1)
        l3 = self.l3(l2)
        if 1 in self.levels and self.first_pool.kernel_size == 5:
            l1 = _pool_to_two_fifths(l1)
        maps = {1: l1, 2: l2, 3: l3}
        return (*(maps[level] for level in self.levels), self.query(l3))


@MODELS.register_module()
class VGGGAP(_FineGroups):
    """VGG-GAP (Zhou et al., CVPR 2016): the 13 convolutions, for global average pooling and a linear layer.

    Args:
        first_pool: see :class:`VGGAtt`.
        width: see :class:`VGG`.
        init_cfg: as in mmengine; by default convolutions are Kaiming-normal by fan-out.

    Raises:
        ValueError: an unknown ``first_pool``; ``width`` is not a positive whole number.
    """

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Compute l3 only from ``(N, 3, H, W)``: ``(N, 512, 8, 8)`` for 32x32."""
        return (self.l3(self.l2(self.l1(x))),)


@MODELS.register_module()
class VGGPAN(_FineGroups):
    """VGG-PAN: progressive attention (Seo et al., 2016) at l2, then LTPA at l3 (appendix A.2).

    l2 is multiplied by its gate before the network continues. The gate's query
    can't come from the layers after the gate, so a separate branch with its own
    conv14, conv15 and linear layer computes it; the published number of parameters
    includes this branch.

    Args:
        first_pool: see :class:`VGGAtt`.
        width: see :class:`VGG`.
        init_cfg: as in mmengine; by default convolutions are Kaiming-normal by fan-out.

    Raises:
        ValueError: an unknown ``first_pool``; ``width`` is not a positive whole number.
    """

    def __init__(self, first_pool: Literal[2, 5] = 2, width: int = 64, init_cfg: dict | None = None) -> None:
        super().__init__(first_pool, width, init_cfg)
        self.gate_query = _query(self.channels, first_pool=4)
        self.gate = ProgressiveGate(self.channels)
        self.query = _query(self.channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute, from ``(N, 3, H, W)``, l3 of the gated l2 and g ``(N, 512)``.

        For 32x32, l3 is ``(N, 512, 8, 8)``.
        """
        l2 = self.l2(self.l1(x))
        gated, _ = self.gate(l2, self.gate_query(l2))
        l3 = self.l3(gated)
        return l3, self.query(l3)
