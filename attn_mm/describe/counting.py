"""Count the parameters and multiply-adds of any network, part by part.

Papers use two conventions for "FLOPs"; both count a multiply-add once:

conv
    the multiply-adds of convolutions, linear layers and matrix products;
full
    conv, plus 2 for each output element of a normalization, plus 1 for each
    output element of a ReLU or a similar activation, plus 1 for each input
    element of a pooling. Both ignore sigmoids, additions, biases and resizing.

``torch.utils.flop_counter`` counts the products. It sees every operation that
runs, including functional and repeated ones. The rest of *full* is added to
its table.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from attn_mm.layers.ops.execution import as_written
from attn_mm.utils.meta_shapes import MetaShapes

_aten = torch.ops.aten


def _per_output(cost: int):
    def flops(*args, out_shape=None, **kwargs) -> int:
        # Operations with statistics or indices give their output first.
        shape = out_shape if isinstance(out_shape, torch.Size) else out_shape[0]
        return 2 * cost * prod(shape)

    return flops


def _per_input(x_shape, *args, **kwargs) -> int:
    return 2 * prod(x_shape)


def _reduction(x_shape, dims=None, *args, **kwargs) -> int:
    """Count a mean or maximum as a pooling if it is over positions, not over the batch or the channels."""
    dims = [dims] if isinstance(dims, int) else dims
    over_positions = dims and all(d % len(x_shape) >= 2 for d in dims)
    return 2 * prod(x_shape) if over_positions else 0


def _product(x_shape, other_shape, *args, **kwargs) -> int:
    """Count a matrix-vector product, which torch's table lacks."""
    return 2 * prod(x_shape)


def _present(*names: str) -> list:
    """The operations of these names that this version of torch has."""
    return [getattr(_aten, name) for name in names if hasattr(_aten, name)]


_FULL = {
    **dict.fromkeys(
        _present(
            "native_batch_norm",
            "_native_batch_norm_legit",
            "_native_batch_norm_legit_no_training",
            "_batch_norm_no_update",
            "cudnn_batch_norm",
            "miopen_batch_norm",
            "native_group_norm",
            "native_layer_norm",
        ),
        _per_output(2),
    ),
    **dict.fromkeys(
        _present("relu", "relu_", "leaky_relu", "leaky_relu_", "_prelu_kernel", "hardtanh", "hardtanh_"),
        _per_output(1),
    ),
    **dict.fromkeys(
        _present(
            "max_pool2d_with_indices",
            "max_pool3d_with_indices",
            "avg_pool2d",
            "avg_pool3d",
            "_adaptive_avg_pool2d",
            "_adaptive_avg_pool3d",
            "adaptive_max_pool2d",
            "adaptive_max_pool3d",
        ),
        _per_input,
    ),
    **dict.fromkeys(_present("mean", "amax", "max"), _reduction),
}
_CONV = dict.fromkeys(_present("mv"), _product)


@dataclass(frozen=True)
class Part:
    """The counts of a module, including everything inside it.

    Attributes:
        name: dotted name in the network, ``''`` for the network itself.
        type: class name.
        params: number of parameters.
        trainable: number of parameters that require a gradient.
        frozen_affine: number of frozen scales and shifts of batch norms. Detection papers
            don't count them as parameters, because they are constants there.
        conv: multiply-adds for one input, convention *conv*.
        full: multiply-adds for one input, convention *full*.
    """

    name: str
    type: str
    params: int
    trainable: int
    frozen_affine: int
    conv: int | None = None
    full: int | None = None


class _NoModules(ModuleTracker):
    """A tracker of no module: the hooks of torch's take as long as the operations."""

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        pass


def flop_counter(modules: bool = False) -> FlopCounterMode:
    """A counter of the operations that run in its context, for :func:`multiply_adds`.

    Args:
        modules: count each module's operations too, beside the whole's.
    """
    counter = FlopCounterMode(display=False, custom_mapping={**_CONV, **_FULL})
    if not modules:
        counter.mod_tracker = _NoModules()
    return counter


def multiply_adds(operations: Mapping) -> tuple[int, int]:
    """Convert a :func:`flop_counter`'s counts by operation to multiply-adds, (*conv*, *full*)."""
    full = sum(operations.values()) // 2
    return full - sum(n for op, n in operations.items() if op in _FULL) // 2, full


_OF_TENSORS = (Tensor.normal_, Tensor.uniform_, Tensor.zero_, Tensor.fill_)
_OF_INIT = (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_normal_, nn.init.kaiming_uniform_)
_INITIALISE = frozenset((*_OF_TENSORS, *_OF_INIT))


class _MetaStorage(TorchFunctionMode):
    """Give no storage to weights, which layers make with ``torch.empty``; other tensors keep their values."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        # What torch does to initialise nothing takes half of a network's time.
        elif func in _INITIALISE and (args[0] if args else kwargs["tensor"]).is_meta:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def weightless() -> Iterator[None]:
    """Build networks in this context without memory or time for their weights.

    ``torch.device('meta')`` alone isn't enough, because upstream constructors read
    values from small tensors. Move the network ``to('meta')`` afterwards.
    """
    with _MetaStorage():
        yield


def on_meta(net: nn.Module) -> nn.Module:
    """Copy ``net`` onto the meta device, without memory for its weights."""
    memo: dict[int, Any] = {}
    for tensor in (*net.parameters(), *net.buffers()):
        moved = tensor.detach().to("meta")
        memo[id(tensor)] = (
            nn.Parameter(moved, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else moved
        )
    return copy.deepcopy(net, memo)


def count_parameters(module: nn.Module, name: str = "") -> Part:
    """Count the parameters of ``module``; a shared parameter counts once."""
    parameters = list(module.parameters())
    norms = {p for m in module.modules() if isinstance(m, _BatchNorm) for p in m.parameters(recurse=False)}
    return Part(
        name,
        type(module).__name__,
        params=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        frozen_affine=sum(p.numel() for p in norms if not p.requires_grad),
    )


def run_counted(model: nn.Module, counter: FlopCounterMode, *inputs, **kwargs) -> None:
    """Run ``model`` once in eval mode, with attention computed as in the papers, and count."""
    training = {m: m.training for m in model.modules()}
    model.eval()
    try:
        with as_written(), torch.no_grad(), MetaShapes(), counter:
            model(*inputs, **kwargs)
    finally:
        for module, mode in training.items():
            module.training = mode


def measure(model: nn.Module, *inputs, depth: int = 2, **kwargs) -> list[Part]:
    """Count the parameters and multiply-adds of ``model`` and of its parts down to ``depth``.

    The network runs once in eval mode on its own device; the meta device works and takes no
    time. Attention layers compute as written in their papers
    (:func:`attn_mm.layers.ops.execution.as_written`).

    Args:
        model: the network.
        *inputs: arguments of its forward; pass a batch of one to count a single input.
        depth: 0 for the network alone, 1 for its children too, and so on.
        **kwargs: keyword arguments of its forward.

    Returns:
        The network, then its parts in depth-first order. Parts without parameters are left
        out, except for children of the network that compute something.
    """
    counter = flop_counter(modules=depth > 0)
    run_counted(model, counter, *inputs, **kwargs)
    return list(_parts(model, counter.get_flop_counts(), depth))


def _parts(model: nn.Module, counts: dict, depth: int) -> Iterator[Part]:
    called = type(model).__name__

    def macs(name: str, module: nn.Module) -> tuple[int, int]:
        conv, full = multiply_adds(counts.get("Global" if not name else f"{called}.{name}", {}))
        if not name:
            return conv, full
        # A list is never called, and a head may be called by its methods alone.
        inside = [macs(f"{name}.{child}", m) for child, m in module.named_children()]
        return max(conv, sum(c for c, _ in inside)), max(full, sum(f for _, f in inside))

    def visit(name: str, module: nn.Module, level: int) -> Iterator[Part]:
        conv, full = macs(name, module)
        part = count_parameters(module, name)
        if level == 0 or part.params or (full and level == 1):
            yield replace(part, conv=conv, full=full)
            if level < depth:
                for child, submodule in module.named_children():
                    yield from visit(f"{name}.{child}".lstrip("."), submodule, level + 1)

    yield from visit("", model, 0)


def meta_input(*shape: int) -> Tensor:
    """Make a batch of one input of that shape on the meta device, without storage."""
    return torch.empty(1, *shape, device="meta")
