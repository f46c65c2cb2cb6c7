"""Gradients of narrow convolutions as ``prefer_channels_last`` leaves them, against float64; run as a script.

Each case is printed before it runs, so that the last line names the one that ends the process.
"""

from __future__ import annotations

import itertools
import sys

import torch
from torch import nn

from attn_mm.run.cpu import prefer_channels_last

KINDS = {
    "2d": (nn.Conv2d, (72, 72)),
    "3d": (nn.Conv3d, (6, 6, 6)),
    "transposed": (nn.ConvTranspose2d, (72, 72)),
}


def thin():
    """The widths around a vector's length of AVX2 (8) and AVX-512 (16)."""
    for channels, out_channels in itertools.product((1, 4, 7, 8, 12, 15, 16), (8, 40)):
        yield "2d", channels, out_channels, 1, 2, 1, channels % 2 == 0, torch.float32
    for kind, kernel in itertools.product(KINDS, (1, 3)):
        yield kind, 4, 8, kernel, 3, 1, False, torch.float32
    yield "2d", 4, 8, 1, 2, 4, True, torch.float32
    for channels, out_channels in ((2, 4), (7, 7), (8, 15)):
        yield "transposed", channels, out_channels, 1, 2, 1, False, torch.float32


def whole():
    for kernel, stride, channels, out_channels in itertools.product(
        (1, 3), (1, 2, 3), range(1, 41), (1, 4, 7, 8, 9, 12, 16, 17, 24, 32, 40)
    ):
        yield "2d", channels, out_channels, kernel, stride, 1, False, torch.float32
    for kind, kernel, stride, channels, bias, dtype in itertools.product(
        KINDS, (1, 3), (1, 2, 3), range(1, 18), (False, True), (torch.float32, torch.bfloat16)
    ):
        for groups in {1, channels}:
            yield kind, channels, 2 * channels, kernel, stride, groups, bias, dtype


def check(kind, channels, out_channels, kernel, stride, groups, bias, dtype) -> bool:
    """Whether output and gradients are those of float64."""
    cls, size = KINDS[kind]
    torch.manual_seed(0)
    options = dict(output_padding=stride - 1) if kind == "transposed" else {}
    conv = cls(channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias, **options)
    first = nn.Conv2d(3, channels, 3, 1, 1) if len(size) == 2 else nn.Conv3d(3, channels, 3, 1, 1)
    # Smooth: where rounding decides whether a ReLU is open, gradients differ.
    net = nn.Sequential(first, nn.Tanh(), conv)
    x = torch.randn(3, 3, *size)
    wanted = gradients(net.double(), x.double())
    prefer_channels_last(net.to(dtype))
    # The gradient of a bias sums up to 140,000 numbers of one sign.
    tolerance = 5e-4 if dtype == torch.float32 else 0.1
    return all(
        (got.double() - want).abs().max() <= tolerance * want.abs().max()
        for got, want in zip(gradients(net, x.to(dtype)), wanted, strict=True)
    )


def gradients(net, x) -> list[torch.Tensor]:
    net.zero_grad()
    y = net(x)
    # All of one sign: sums of both would cancel, and little but rounding would be left to compare.
    y.backward(torch.linspace(0.5, 1.5, y.numel(), dtype=x.dtype).view(y.shape))
    return [y.detach().clone(), *(p.grad.clone() for p in net.parameters())]


if __name__ == "__main__":
    torch.set_num_threads(2)
    wrong = 0
    for case in {"thin": thin, "whole": whole}[sys.argv[1]]():
        print(*case, flush=True)
        if not check(*case):
            print("wrong:", *case, flush=True)
            wrong += 1
    sys.exit(bool(wrong))
