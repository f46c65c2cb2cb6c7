"""Top-down attention in float64, written from the equations with sums: slow, plain, and only for tests.

Parameters come as ``{name: tensor}`` with the names of the layer under test.
"""

from __future__ import annotations

import itertools

import torch


def sigmoid(x):
    return 1 / (1 + (-x).exp())


def attend(parameters, bottom, top, spatial="raw"):
    """Eqs. 4-8: sigmoid(s), sigmoid(A) and the next bottom; eq. 5 where there is no ``bottom_mlp``."""
    gates, maps, nexts = [], [], []
    for x, y in zip(bottom, top):
        hidden = []
        for name, features in (("top_mlp", y), ("bottom_mlp", x)):
            if f"{name}.weight" in parameters:
                pooled = torch.stack([channel.sum() / channel.numel() for channel in features])
                for row in parameters[f"{name}.weight"].flatten(1):
                    hidden.append((row * pooled).sum().clamp(min=0))
        s = torch.stack([(row * torch.stack(hidden)).sum() for row in parameters["mlp.weight"].flatten(1)])
        scaled = torch.stack([channel * sigmoid(s_c) for channel, s_c in zip(x, s)])
        searchlight = s if spatial == "raw" else sigmoid(s)
        positions = sigmoid(sum(s_c * channel for s_c, channel in zip(searchlight, scaled)))
        gates.append(sigmoid(s))
        maps.append(positions)
        nexts.append(torch.stack([channel * positions for channel in scaled]))
    return torch.stack(gates), torch.stack(maps), torch.stack(nexts)


def convolve(x, weight, bias, stride, padding, groups):
    """The definition of a convolution, tap by tap, in any number of spatial dimensions."""
    padded = torch.zeros(*x.shape[:2], *[s + 2 * p for s, p in zip(x.shape[2:], padding)], dtype=x.dtype)
    padded[(..., *[slice(p, p + s) for s, p in zip(x.shape[2:], padding)])] = x
    kernel = weight.shape[2:]
    size = [(s - k) // step + 1 for s, k, step in zip(padded.shape[2:], kernel, stride)]
    width_in, width_out = weight.shape[1], len(weight) // groups
    outputs = []
    for k in range(len(weight)):
        first = k // width_out * width_in
        out = torch.zeros(len(x), *size, dtype=x.dtype)
        for c in range(width_in):
            for tap in itertools.product(*map(range, kernel)):
                window = [slice(t, t + step * s, step) for t, step, s in zip(tap, stride, size)]
                out = out + weight[(k, c, *tap)] * padded[(slice(None), first + c, *window)]
        outputs.append(out if bias is None else out + bias[k])
    return torch.stack(outputs, 1)


class Norm:
    """Batch normalization (Ioffe & Szegedy, 2015) with running statistics, started from those of a layer."""

    def __init__(self, norm):
        self.gamma, self.beta = (
            None if p is None else p.detach().clone().requires_grad_() for p in (norm.weight, norm.bias)
        )
        self.eps, self.momentum = norm.eps, norm.momentum
        self.updates = norm.training and norm.track_running_stats
        self.from_batch = norm.training or norm.running_mean is None
        if norm.running_mean is not None:
            self.mean, self.var = norm.running_mean.clone(), norm.running_var.clone()
            self.batches = norm.num_batches_tracked.item()

    def __call__(self, y):
        columns = []
        self.batches = self.batches + 1 if self.updates else 0
        for c in range(y.shape[1]):
            values = y[:, c]
            if self.from_batch:
                mean = values.sum() / values.numel()
                var = ((values - mean) ** 2).sum() / values.numel()
                if self.updates:
                    share = 1 / self.batches if self.momentum is None else self.momentum
                    unbiased = var.detach() * values.numel() / (values.numel() - 1)
                    self.mean[c] += share * (mean.detach() - self.mean[c])
                    self.var[c] += share * (unbiased - self.var[c])
            else:
                mean, var = self.mean[c], self.var[c]
            out = (values - mean) / (var + self.eps) ** 0.5
            columns.append(out if self.gamma is None else self.gamma[c] * out + self.beta[c])
        return torch.stack(columns, 1)
