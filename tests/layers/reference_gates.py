"""SE, ECA, CBAM, FCA and TAM in float64, written from the papers' formulas: slow, plain, and only for tests.

Maps are ``(N, C, *size)`` of any number of dimensions; parameters come as
``{name: tensor}`` with the names of the layer under test. No convolution, pooling
or normalization of torch is used.
"""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import torch
from layers.reference import leaves
from torch import nn

TOLERANCE = dict(rtol=1e-12, atol=1e-12)
SIZES = {2: [(5, 3), (1, 1), (4, 6)], 3: [(3, 2, 5), (1, 1, 1)]}


def randomize(layer):
    """``layer`` in float64 with nothing left at its start value."""
    for p in layer.double().parameters():
        nn.init.uniform_(p, -0.8, 0.8)
    return layer


def assert_equals(layer, x, formula):
    """Output and the gradients of input and parameters are those of ``formula(x, params)``."""
    params = leaves(layer)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = layer(ours), formula(theirs, params)
    assert out.shape == x.shape and out.dtype == x.dtype
    torch.testing.assert_close(out, expected, **TOLERANCE)
    weights = torch.randn_like(out)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, **TOLERANCE)
    for name, p in layer.named_parameters():
        # One sample may leave every hidden unit at 0.
        assert p.grad.any() or len(x) == 1, f"{name} has no gradient"
        torch.testing.assert_close(p.grad, params[name].grad, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")


def step(layer, x):
    """Output and all gradients, of the input first, for a gradient of the output that is always the same."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = layer(x)
    weights = torch.linspace(0.5, 1.5, out.numel()).reshape(out.shape).to(out)
    return [out.detach(), *torch.autograd.grad(out, [x, *layer.parameters()], weights)]


def assert_near(found, expected, tolerance):
    """Each tensor, in its own scale."""
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        scale = max(b.abs().max().item(), 1e-3)
        torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=tolerance * scale)


def assert_robust(layer, x):
    """Copies, number formats, memory formats and compilation give what the layer gives in float64.

    ``layer`` and ``x`` are float64; the layer is in the mode under test.
    """
    expected = step(layer, x)

    def same(layer, x, tolerance):
        # A copy each time: a step in training mode moves running statistics.
        assert_near(step(copy.deepcopy(layer), x), expected, tolerance)

    same(pickle.loads(pickle.dumps(layer)), x, 0)
    blank = copy.deepcopy(layer)
    for p in blank.parameters():
        nn.init.zeros_(p)
    blank.load_state_dict(layer.state_dict())
    same(blank, x, 0)

    last = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    in_last = x.contiguous(memory_format=last)
    same(layer, in_last, 1e-12)
    assert layer(in_last).is_contiguous(memory_format=last)

    single = copy.deepcopy(layer).float()
    same(single, x.float(), 1e-5)
    same(single, in_last.float(), 1e-5)

    def autocast(layer, x):
        with torch.autocast("cpu", torch.bfloat16):
            found = step(layer, x)
        assert found[0].dtype == x.dtype
        return found

    half = torch.finfo(torch.bfloat16).eps
    for given in (x.float(), x.bfloat16(), in_last.bfloat16()):
        assert_near(autocast(copy.deepcopy(single), given), expected, 8 * half)
    same(copy.deepcopy(layer).bfloat16(), x.bfloat16(), 8 * half)


def assert_compiles(layer, x):
    """In one graph, forward and backward, under the compiler and as an exported program."""
    expected = step(layer, x)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    found = step(compiled, x)
    assert_near(found, expected, 1e-12)
    sizes = {d: torch.export.Dim(f"size_{d}", min=2) for d in range(x.dim()) if d != 1}
    program = torch.export.export(copy.deepcopy(layer).eval(), (x,), dynamic_shapes=(sizes,))
    other = torch.randn(3, x.shape[1], *[s + 1 for s in x.shape[2:]], dtype=x.dtype)
    torch.testing.assert_close(program.module()(other), layer.eval()(other), **TOLERANCE)


def sigmoid(x):
    return 1 / (1 + (-x).exp())


def positions(x):
    return itertools.product(*map(range, x.shape[2:]))


def spread(gate, x):
    """A number for each channel ``(N, C)`` at every position of ``x``."""
    return gate.reshape(*gate.shape, *[1] * (x.dim() - 2)).expand_as(x)


def average(x):
    return sum(x[(..., *at)] for at in positions(x)) / math.prod(x.shape[2:])


def maximum(x):
    return x.flatten(2).sort(dim=2).values[:, :, -1]


def mlp(z, params):
    """W2 max(0, W1 z + b1) + b2 on ``(N, C)``."""

    def layer(z, name):
        weight = params[f"{name}.weight"].flatten(1)
        out = (z[:, None, :] * weight[None]).sum(2)
        return out + params.get(f"{name}.bias", 0)

    hidden = layer(z, "mlp.0")
    return layer(hidden * (hidden > 0), "mlp.2")


def convolve(x, weight):
    """Sum over the children and taps of one output channel's ``weight (C, *k)``, zeros around the map."""
    kernel = weight.shape[1:]
    reach = [k // 2 for k in kernel]
    padded = x.new_zeros(*x.shape[:2], *[s + 2 * r for s, r in zip(x.shape[2:], reach)])
    padded[(..., *[slice(r, r + s) for s, r in zip(x.shape[2:], reach)])] = x
    out = 0
    for tap in itertools.product(*map(range, kernel)):
        window = padded[(..., *[slice(t, t + s) for t, s in zip(tap, x.shape[2:])])]
        for c in range(x.shape[1]):
            out = out + weight[(c, *tap)] * window[:, c]
    return out


def se(x, params):
    return x * spread(sigmoid(mlp(average(x), params)), x)


def eca(x, params):
    z, weight = average(x), params["conv.weight"].flatten()
    gates = []
    for c in range(z.shape[1]):
        near = [(c + j - len(weight) // 2, w) for j, w in enumerate(weight)]
        gates.append(sigmoid(sum(w * z[:, i] for i, w in near if 0 <= i < z.shape[1])))
    return x * spread(torch.stack(gates, dim=1), x)


def cbam(x, params, norm, spatial=True, max_pool=True):
    """``norm(map)`` normalizes the spatial attention's map ``(N, *size)``, before the affine part."""
    logits = mlp(average(x), params)
    if max_pool:
        logits = logits + mlp(maximum(x), params)
    x = x * spread(sigmoid(logits), x)
    if not spatial:
        return x
    largest = x.sort(dim=1).values[:, -1]
    mean = sum(x[:, c] for c in range(x.shape[1])) / x.shape[1]
    seen = convolve(torch.stack([largest, mean], dim=1), params["spatial.0.weight"][0])
    seen = params["spatial.1.weight"] * norm(seen) + params["spatial.1.bias"]
    return x * sigmoid(seen)[:, None]


def batch_statistics(seen):
    mean = seen.sum() / seen.numel()
    return mean, ((seen - mean) ** 2).sum() / seen.numel()


def adaptive_average(x, size):
    """Cell i of ``size`` covers what of the map lies, even in part, in [i / size, (i + 1) / size)."""
    height, width = x.shape[2:]
    rows = []
    for i in range(size):
        top, bottom = i * height // size, -((i + 1) * height // -size)
        cells = []
        for j in range(size):
            left, right = j * width // size, -((j + 1) * width // -size)
            cells.append(average(x[:, :, top:bottom, left:right]))
        rows.append(torch.stack(cells, dim=2))
    return torch.stack(rows, dim=2)


# Height and width frequency of each part of the channels.
FREQUENCIES = [
    (0, 0), (0, 1), (6, 0), (0, 5), (0, 2), (1, 0), (1, 2), (4, 0),
    (5, 0), (1, 6), (3, 0), (0, 4), (0, 6), (0, 3), (3, 5), (2, 2),
]  # fmt: skip


def dct(x, u, v):
    """The orthonormal DCT-II component (u, v) of ``(N, C, size, size)``."""
    size = x.shape[2]

    def wave(frequency, at):
        scale = math.sqrt((2 if frequency else 1) / size)
        return scale * math.cos(math.pi * frequency * (2 * at + 1) / (2 * size))

    return sum(x[:, :, h, w] * (wave(u, h) * wave(v, w)) for h, w in positions(x))


def fca(x, params, size):
    still = x if x.dim() == 4 else sum(x[:, :, t] for t in range(x.shape[2])) / x.shape[2]
    pooled = adaptive_average(still, size)
    parts = pooled.split(pooled.shape[1] // len(FREQUENCIES), dim=1)
    times = size // 7
    z = [dct(part, u * times, v * times) for part, (u, v) in zip(parts, FREQUENCIES)]
    return x * spread(sigmoid(mlp(torch.cat(z, dim=1), params)), x)


def tam_gate(x, params, group_size):
    """The tree, one node after another; ``(N, *size)``."""
    nodes = list(x.unbind(1))
    index = 0
    while len(nodes) > 1:
        group = group_size if len(nodes) % group_size == 0 else len(nodes)
        weight, bias = params[f"tree.{index}.weight"], params[f"tree.{index}.bias"]
        parents = []
        for j in range(len(nodes) // group):
            children = torch.stack(nodes[j * group : (j + 1) * group], dim=1)
            parents.append(convolve(children, weight[j]) + bias[j])
        if len(parents) > 1:
            slopes = params[f"tree.{index + 1}.weight"]
            parents = [p * (p > 0) + slopes[j] * p * (p <= 0) for j, p in enumerate(parents)]
        nodes = parents
        index += 2
    return sigmoid(nodes[0])


def tam(x, params, group_size=2):
    return x * tam_gate(x, params, group_size)[:, None]
