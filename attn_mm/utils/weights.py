"""Find weights of a checkpoint that torch would load without complaint, and that make no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

_STATISTICS = ("running_mean", "running_var")


def without_wrapper(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights by the names that they have without a wrapper for distributed training."""
    return {str(key).removeprefix("module."): value for key, value in weights.items()}


def wrong_weight(model: nn.Module, weights: Mapping[str, Any]) -> str | None:
    """Say which weight has another kind of numbers than the network's, or numbers that make no sense.

    Args:
        model: the network that the weights are for; it isn't changed.
        weights: by name. Those that the network doesn't have are only searched for NaN.

    Returns:
        what is wrong with the first one, or None.
    """
    parameters = {name for name, _ in model.named_parameters()}
    own = model.state_dict()
    for name, value in weights.items():
        if isinstance(value, Tensor):
            mine = own.get(name)
            known = mine if isinstance(mine, Tensor) else None
            wrong = fault_of(name, value, known, finite=name in parameters)
            if wrong:
                return wrong
    return None


def fault_of(name: str, value: Tensor, own: Tensor | None, finite: bool) -> str | None:
    """Say what is wrong with a weight; None if nothing is.

    Args:
        name: its name.
        value: the weight.
        own: the network's tensor, which the weight replaces, if it has one.
        finite: whether infinity is wrong. It always is for a norm's statistics, and where the network's own
            buffer is finite: only a mask is infinite.
    """
    if own is not None:
        if not _is_convertible(value, own):
            return f"{name} has numbers of type {_name(value)}, but the network's are {_name(own)}"
        if not own.is_floating_point():
            return None
        # A large number of float64 is infinite in float32.
        value = value.to(own.dtype)
    if not (value.is_floating_point() or value.is_complex()):
        return None
    kind = name.rpartition(".")[2]
    finite = finite or kind in _STATISTICS or (own is not None and _is_finite(own))
    wrong = ~value.isfinite() if finite else value.isnan()
    if wrong.any():
        return f"{int(wrong.sum())} of {value.numel()} numbers in {name} are NaN or infinite"
    if kind == "running_var" and not value.is_complex() and (value < 0).any():
        return f"{int((value < 0).sum())} of {value.numel()} variances in {name} are negative"
    return None


def _is_finite(own: Tensor) -> bool:
    return own.is_meta or bool(own.isfinite().all())


def _is_convertible(value: Tensor, own: Tensor) -> bool:
    """Whether ``value`` means the same in the type of ``own``."""
    if own.is_floating_point() or own.is_complex():
        return value.is_floating_point() == own.is_floating_point() and value.is_complex() == own.is_complex()
    if value.is_floating_point():
        return bool((value == value.round()).all()) and bool(value.isfinite().all())
    return not value.is_complex()


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
