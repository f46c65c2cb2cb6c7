"""Attention Network across Recurrence (ANAR): one flow's features give the next flow's mask.

Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021,
section 3.2, figure 3a and table 1 (https://arxiv.org/abs/2012.07248).

Table 1 gives the widths as fractions of "c, the number of input channels". The
published parameter counts (tables 4 and 6) require c = 512 for every stage; only
the first 1x1 convolution depends on the stage's channels. This is the default;
``width='stage'`` follows the table literally.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from attn_mm.layers.ops.dims import check_dims, conv_class, deconv_class, norm_class

_INTERPOLATION = {2: "bilinear", 3: "trilinear"}

# depth -> width divisors: of the first map, of each down-sampling conv, of each deconv
_TABLE_1 = {
    2: (8, (), ()),
    3: (8, (), (32,)),
    5: (4, (8,), (16, 32)),
    7: (4, (8, 8), (16, 16, 32)),
}


def crop_or_resize(x: Tensor, size) -> Tensor:
    """Crop ``x`` ``(N, C, *in)`` at the far ends to ``(N, C, *size)``; interpolate it if it is too small."""
    if any(have < want for have, want in zip(x.shape[2:], size)):
        return F.interpolate(x, size=tuple(size), mode=_INTERPOLATION[len(size)], align_corners=False)
    for dim, want in enumerate(size, 2):
        if x.shape[dim] != want:
            x = x.narrow(dim, 0, want)
    return x


class ANAR(nn.Module):
    """Compute a one-channel attention mask, twice the input's size in every dimension.

    The batch norms are plain; :func:`attn_mm.layers.convert_multi_flow` gives them
    separate statistics for each flow.

    Args:
        in_channels: channels of the input, the output of a stage.
        depth: 2, 3, 5 or 7 layers. Depth 2 replaces the deconvolution of depth 3 by
            an interpolation without parameters (paper, section 4.1).
        width: c of table 1: a number, or ``'stage'`` for ``in_channels``.
        dims: 2 for images, 3 for video (time is treated like space).
        depthwise: replaces every spatial (de)convolution by a depthwise one followed by
            a 1x1, for MobileNet backbones (paper, section 4.1).
        skip_kernel: size of the skip convolutions ("SC" in figure 3a), 1 or 3; the paper doesn't give it. The
            published counts of FCOS and of the 3D networks are those of 1; those of the VGGs fit 1, and 3
            with ``width='stage'`` behind all five pools.

    Raises:
        ValueError: an unknown ``depth``, ``dims``, ``width`` or ``skip_kernel``.
    """

    def __init__(
        self,
        in_channels: int,
        depth: Literal[2, 3, 5, 7] = 3,
        width: int | Literal["stage"] = 512,
        dims: Literal[2, 3] = 2,
        depthwise: bool = False,
        skip_kernel: Literal[1, 3] = 1,
    ) -> None:
        super().__init__()
        if depth not in _TABLE_1:
            raise ValueError(f"ANAR depth must be one of {sorted(_TABLE_1)}, got {depth!r}")
        check_dims(dims)
        width = in_channels if width == "stage" else width
        if not isinstance(width, int) or width < 32:
            raise ValueError(f"ANAR width must be 'stage' or a number of at least 32, got {width!r}")
        if skip_kernel not in (1, 3) or isinstance(skip_kernel, bool):
            raise ValueError(f"ANAR skip_kernel must be 1 or 3, got {skip_kernel!r}")
        self.dims = dims
        first, downs, ups = _TABLE_1[depth]
        channels = width // first
        self.reduce = self._unit(in_channels, channels, kernel=1)
        skips = []
        self.downs = nn.ModuleList()
        for divisor in downs:
            skips.append(channels)
            self.downs.append(self._unit(channels, width // divisor, 3, conv_class, depthwise))
            channels = width // divisor
        self.ups = nn.ModuleList()
        self.skips = nn.ModuleList()
        for divisor in ups:
            self.ups.append(self._unit(channels, width // divisor, 4, deconv_class, depthwise))
            channels = width // divisor
            if skips:
                skip = self._unit(skips.pop(), channels, skip_kernel, conv_class, depthwise, stride=1)
                self.skips.append(skip[:-1])
        self.mask = conv_class(dims)(channels, 1, 1)

    def _unit(
        self, c_in, c_out, kernel, spatial_class=conv_class, depthwise=False, stride=2
    ) -> nn.Sequential:
        """A conv or deconv with norm and ReLU; the stride is that of kernels larger than 1."""
        layers = []
        if kernel > 1:
            groups, c_mid = (c_in, c_in) if depthwise else (1, c_out)
            conv = spatial_class(self.dims)(c_in, c_mid, kernel, stride, 1, groups=groups, bias=False)
            layers = [conv, norm_class(self.dims)(c_mid), nn.ReLU(inplace=True)]
        if kernel == 1 or depthwise:
            conv = conv_class(self.dims)(c_in, c_out, 1, bias=False)
            layers += [conv, norm_class(self.dims)(c_out), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)

    def reset_parameters(self) -> None:
        """Initialise by Kaiming (paper, section 4.1), so that the mask starts near 1/2.

        With eta = 0.5 a mask of 1/2 multiplies by 1: the grafted network initially
        computes what the original network computes.
        """
        for module in self.modules():
            if isinstance(module, conv_class(self.dims)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, deconv_class(self.dims)):
                # torch swaps a deconv's fan-in and fan-out: its weight is transposed.
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.reset_parameters()
        nn.init.normal_(self.mask.weight, std=0.01)
        nn.init.zeros_(self.mask.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, *size)`` to a mask in (0, 1), ``(N, 1, *(2 * size))``."""
        out_size = [2 * s for s in x.shape[2:]]
        x = self.reduce(x)
        maps = []
        for down in self.downs:
            maps.append(x)
            x = down(x)
        for index, up in enumerate(self.ups):
            x = up(x)
            if maps:
                skip = maps.pop()
                x = crop_or_resize(x, skip.shape[2:]) + self.skips[index](skip)
        if not self.ups:
            x = F.interpolate(x, scale_factor=2, mode=_INTERPOLATION[self.dims], align_corners=False)
        return self.mask(crop_or_resize(x, out_size)).sigmoid()
