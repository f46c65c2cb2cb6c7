"""Learn to pay attention in float64, position by position from the paper's equations; only for tests."""

from __future__ import annotations

import itertools

import torch


def positions(local):
    return list(itertools.product(*[range(size) for size in local.shape[1:]]))


def parametrised(local, global_, u, bias):
    """Eq. 2, of one sample: ``(C, *size)`` and ``(C,)`` -> one score for each position."""
    return [
        sum(u[c] * (local[(c, *at)] + global_[c]) for c in range(len(u))) + bias for at in positions(local)
    ]


def dot_product(local, global_):
    """Eq. 3, of one sample."""
    return [sum(local[(c, *at)] * global_[c] for c in range(local.shape[0])) for at in positions(local)]


def attend(local, global_, score):
    """Eq. 1 and g_a, a sample at a time: ``(N, C, *size)``, ``(N, C)`` -> ``(N, C)``, ``(N, 1, *size)``."""
    vectors, maps = [], []
    for sample, g in zip(local, global_):
        exponentials = [c.exp() for c in score(sample, g)]
        attention = [e / sum(exponentials) for e in exponentials]
        vectors.append(sum(a * sample[(slice(None), *at)] for a, at in zip(attention, positions(sample))))
        maps.append(torch.stack(attention).reshape(1, *sample.shape[1:]))
    return torch.stack(vectors), torch.stack(maps)


def gate(local, global_, score):
    """Appendix A.2: every position times the sigmoid of its own score."""
    gates = []
    for sample, g in zip(local, global_):
        values = [1 / (1 + (-c).exp()) for c in score(sample, g)]
        gates.append(torch.stack(values).reshape(1, *sample.shape[1:]))
    gates = torch.stack(gates)
    return local * gates, gates
