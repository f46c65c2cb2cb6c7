"""AW-convolution in float64, written from eqs. 4-8 of its paper value by value, for tests only."""

from __future__ import annotations

import itertools
from math import ceil, floor

import torch
import torch.nn.functional as F


def pool(image, size):
    """Cell i of ``size`` averages what overlaps the i-th of as many equal parts of the image."""
    cells = []
    for at in itertools.product(*map(range, size)):
        part = image
        for dim, (i, cells_here) in enumerate(zip(at, size), start=2):
            width = image.shape[dim] / cells_here
            # Rounding guards the bounds that are whole numbers but for the division's error.
            part = part.narrow(dim, lo := floor(round(i * width, 9)), ceil(round((i + 1) * width, 9)) - lo)
        cells.append(part.flatten(2).mean(2))
    return torch.stack(cells, 2).unflatten(2, list(size))


def pointwise(x, weight):
    return torch.einsum("nc...,oc->no...", x, weight.flatten(1))


class Norm:
    """Batch normalization (Ioffe & Szegedy, 2015); single values are normalized as in evaluation."""

    def __init__(self, gamma, beta, mean, var, training, momentum=0.1, eps=1e-5):
        self.gamma, self.beta, self.eps, self.momentum = gamma, beta, eps, momentum
        self.mean, self.var, self.training = mean.clone(), var.clone(), training

    def __call__(self, x):
        columns = []
        for c in range(x.shape[1]):
            values = x[:, c]
            mean, var, m = self.mean[c].clone(), self.var[c].clone(), values.numel()
            if self.training and m > 1:
                mean = values.sum() / m
                var = ((values - mean) ** 2).sum() / m
                self.mean[c] += self.momentum * (mean.item() - self.mean[c])
                self.var[c] += self.momentum * (var.item() * m / (m - 1) - self.var[c])
            columns.append(self.gamma[c] * (values - mean) / (var + self.eps) ** 0.5 + self.beta[c])
        return torch.stack(columns, 1)


def attention(image, params, norms, shape, ratios):
    """A of eq. 7 for kernels of ``shape`` (C2, C1, *size), ``ratios`` (r_C1, r_C2, r_hw): (N, *shape)."""
    (_, c1, *size), (r_c1, r_c2, r_hw) = shape, ratios
    a = pool(image, [k // r_hw for k in size])
    a = norms["norm1"](pointwise(a, params["attention.conv1.weight"])).clamp(min=0)
    a = 1 / (1 + (-norms["norm2"](pointwise(a, params["attention.conv2.weight"]))).exp())
    rows = []
    for p, o, *at in itertools.product(*map(range, shape)):
        channel = (p // r_c2) * (c1 // r_c1) + o // r_c1
        rows.append(a[(slice(None), channel, *[i // r_hw for i in at])])
    return torch.stack(rows, 1).unflatten(1, list(shape))


def pad(x, before, after, mode):
    """``x`` with pixels ``-before .. size + after``, those outside taken as ``mode`` says."""
    for dim, (lo, hi) in enumerate(zip(before, after), start=2):
        n = x.shape[dim]
        columns = []
        for i in range(-lo, n + hi):
            outside = not 0 <= i < n
            if mode == "replicate":
                i = min(max(i, 0), n - 1)
            elif mode == "circular":
                i = i % n
            elif mode == "reflect":
                i = -i if i < 0 else min(i, 2 * (n - 1) - i)
            column = x.select(dim, 0 if outside and mode == "zeros" else i)
            columns.append(column * 0 if outside and mode == "zeros" else column)
        x = torch.stack(columns, dim)
    return x


def aw_conv(image, params, norms, ratios, stride, padding, dilation, groups, mode, identity=True):
    """Eq. 5 for every sample, or its second term alone.

    Stride, dilation and padding are tuples, padding may be 'same' or 'valid'.
    """
    kernel = params["weight"]
    a = attention(image, params, norms, kernel.shape, ratios)
    if padding == "same":
        both = [d * (k - 1) for d, k in zip(dilation, kernel.shape[2:])]
        before, after = [b // 2 for b in both], [b - b // 2 for b in both]
    else:
        before = after = [0] * len(stride) if padding == "valid" else padding
    padded = pad(image, before, after, mode)
    conv = {4: F.conv2d, 5: F.conv3d}[image.dim()]
    samples = [
        conv(
            padded[n : n + 1],
            (kernel if identity else 0) + a[n] * kernel,
            params.get("bias"),
            stride,
            0,
            dilation,
            groups,
        )
        for n in range(len(image))
    ]
    return torch.cat(samples)
