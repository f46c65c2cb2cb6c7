"""TDAF in float64, written from the paper's equations with loops and sums: slow, plain, and only for tests.

Stages, flows and layers are numbered from 1 as in the paper; parameters come as
``{name: tensor}`` with the names of the layer under test.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F


def leaves(module) -> dict[str, torch.Tensor]:
    """Copies of all parameters of ``module`` that collect their own gradients."""
    return {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}


class MultiFlowNorm:
    """Eq. 4 with the running statistics of Ioffe & Szegedy (2015), one set for each flow."""

    def __init__(self, gamma, alpha, flows, eps=1e-5, momentum=0.1, training=True):
        channels = gamma.numel()
        self.gamma, self.alpha = gamma, alpha
        self.eps, self.momentum, self.training = eps, momentum, training
        self.mean = [torch.zeros(channels, dtype=torch.float64) for _ in range(flows)]
        self.var = [torch.ones(channels, dtype=torch.float64) for _ in range(flows)]
        self.batches = [0] * flows

    def __call__(self, x, n):
        columns = []
        for c in range(x.shape[1]):
            values = x[:, c]
            if self.training:
                m = values.numel()
                mean = values.sum() / m
                var = ((values - mean) ** 2).sum() / m
                self._track(n, c, mean.detach(), (var * m / (m - 1)).detach())
            else:
                mean, var = self.mean[n - 1][c], self.var[n - 1][c]
            columns.append(self.gamma[c] * (values - mean) / (var + self.eps) ** 0.5 + self.alpha[c])
        if self.training:
            self.batches[n - 1] += 1
        return torch.stack(columns, dim=1)

    def _track(self, n, c, mean, unbiased_var):
        share = 1 / (self.batches[n - 1] + 1) if self.momentum is None else self.momentum
        self.mean[n - 1][c] = (1 - share) * self.mean[n - 1][c] + share * mean
        self.var[n - 1][c] = (1 - share) * self.var[n - 1][c] + share * unbiased_var


def down_sample(x):
    """Eq. 2: the mean of the pixels 2i and 2i + 1 in every dimension, of those that exist."""
    size = x.shape[2:]
    cells = []
    for corner in itertools.product(*[range(0, s, 2) for s in size]):
        cell = x[(..., *[slice(i, i + 2) for i in corner])]
        cells.append(cell.flatten(2).mean(2))
    return torch.stack(cells, 2).unflatten(2, [(s + 1) // 2 for s in size])


def resize(x, size):
    """Linear interpolation, pixel centres at half-integers, one dimension at a time."""
    for dim, want in enumerate(size, start=2):
        have = x.shape[dim]
        matrix = torch.zeros(want, have, dtype=x.dtype)
        for i in range(want):
            at = max((i + 0.5) * have / want - 0.5, 0.0)
            low = min(int(at), have - 1)
            matrix[i, low] += 1 - (at - low)
            matrix[i, min(low + 1, have - 1)] += at - low
        x = torch.tensordot(x, matrix, dims=([dim], [1])).movedim(-1, dim)
    return x


def fit(mask, size):
    """The mask over a map of ``size``: its first rows and columns, or stretched where it has too few."""
    if all(have >= want for have, want in zip(mask.shape[2:], size)):
        return mask[(..., *[slice(0, want) for want in size])]
    return resize(mask, size)


def conv(x, weight, stride=1, padding=0, bias=None, groups=1):
    function = {4: F.conv2d, 5: F.conv3d}[x.dim()]
    return function(x, weight, bias, stride, padding, groups=groups)


def deconv(x, weight, groups=1):
    """Transposed convolution, 4 wide, stride 2, padding 1: zeros between the pixels, then a convolution."""
    size = [2 * s - 1 for s in x.shape[2:]]
    spread = x.new_zeros(*x.shape[:2], *size)
    spread[(..., *[slice(None, None, 2) for _ in size])] = x
    weight = weight.flip([*range(2, x.dim())])
    per_group = weight.chunk(groups, dim=0)
    weight = torch.cat([w.transpose(0, 1) for w in per_group])
    return conv(spread, weight, padding=2, groups=groups)


def anar(x, n, depth, params, norms, depthwise=False):
    """Table 1 and figure 3a: the mask that flow ``n``'s map ``x`` gives to the next flow."""

    def unit(x, name, kind):
        w = params[f"{name}.0.weight"]
        groups = x.shape[1] if depthwise and kind != "1x1" else 1
        if kind == "1x1":
            x = conv(x, w)
        elif kind == "down":
            x = conv(x, w, stride=2, padding=1, groups=groups)
        else:
            x = deconv(x, w, groups)
        x = norms[f"{name}.1"](x, n).clamp(min=0)
        if groups > 1:
            x = norms[f"{name}.4"](conv(x, params[f"{name}.3.weight"]), n).clamp(min=0)
        return x

    def skip(x, name):
        w = params[f"{name}.0.weight"]
        groups = x.shape[1] if depthwise and w.shape[-1] > 1 else 1
        y = norms[f"{name}.1"](conv(x, w, padding=w.shape[-1] // 2, groups=groups), n)
        if groups > 1:
            y = norms[f"{name}.4"](conv(y.clamp(min=0), params[f"{name}.3.weight"]), n)
        return y

    full = [2 * s for s in x.shape[2:]]
    a = unit(x, "reduce", "1x1")
    if depth == 2:
        up = resize(a, full)
    elif depth == 3:
        up = unit(a, "ups.0", "up")
    elif depth == 5:
        b = unit(a, "downs.0", "down")
        c = fit(unit(b, "ups.0", "up"), a.shape[2:]) + skip(a, "skips.0")
        up = unit(c, "ups.1", "up")
    elif depth == 7:
        b = unit(a, "downs.0", "down")
        c = unit(b, "downs.1", "down")
        d = fit(unit(c, "ups.0", "up"), b.shape[2:]) + skip(b, "skips.0")
        e = fit(unit(d, "ups.1", "up"), a.shape[2:]) + skip(a, "skips.1")
        up = unit(e, "ups.2", "up")
    return 1 / (1 + (-conv(up, params["mask.weight"], bias=params["mask.bias"])).exp())


def r2dns(h, g, image, flows, eta=0.5, start_mask=None):
    """Eqs. 1-3 and 5, flow after flow.

    Args:
        h: the L stages, ``h[l - 1](x, n)``; g: the attentions, ``g[l - 1](x, n)``.
        start_mask: what stands for g at the start of a horizontal path in eq. 5;
            None leaves that map alone.

    Returns:
        the last flow's L maps, and ``{(l, n): mask}``.
    """
    stages = len(h)
    image_of = {flows: image}
    for n in range(flows - 1, 0, -1):
        image_of[n] = down_sample(image_of[n + 1])
    x, masks = {}, {}
    for n in range(1, flows + 1):
        x[1, n] = image_of[n]
        for l in range(1, stages - (flows - n) + 1):  # noqa: E741
            y = h[l - 1](x[l, n], n)
            if (l + 1, n - 1) in x:
                masks[l, n] = fit(g[l - 1](x[l + 1, n - 1], n - 1), y.shape[2:])
                y = y * masks[l, n] + eta * y
            elif start_mask is not None:
                y = y * start_mask + eta * y
            x[l + 1, n] = y
    return [x[l + 1, flows] for l in range(1, stages + 1)], masks  # noqa: E741
