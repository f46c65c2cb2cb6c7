"""Multi-flow batch normalization (MFBN): separate statistics for each flow of a recursion.

Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021,
section 3.1, eq. 4 (https://arxiv.org/abs/2012.07248).

The flows of a recursion run the same layers on inputs with different statistics.
The layer keeps one mean and one variance for each flow; all flows share the affine
parameters. The caller sets the running flow::

    with flow(0):
        y = norm(x)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_mm.layers.ops.execution import current_flow
from attn_mm.layers.ops.sync_norm import sync_batch_norm


class MFBN(_BatchNorm):
    """Batch normalization with statistics for each of ``num_flows`` flows; input ``(N, C, ...)``.

    Outside any :func:`~attn_mm.layers.flow` block the layer uses the last flow's statistics, because
    the last flow is the original network. ``running_mean`` and ``running_var`` are
    ``(num_flows, C)``; the state of a plain batch norm loads into every flow.

    Args:
        num_features: channels ``C``.
        num_flows: number of flows, at least 1.
        eps, momentum, affine, track_running_stats: as in ``torch.nn.BatchNorm2d``.

    Raises:
        ValueError: ``num_flows`` is below 1, or the input has the wrong number of dimensions.
        IndexError: the running flow is not below ``num_flows``.
    """

    _flow_buffers = ("running_mean", "running_var", "num_batches_tracked")

    def __init__(
        self,
        num_features: int,
        num_flows: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device=None,
        dtype=None,
    ) -> None:
        if num_flows < 1:
            raise ValueError(f"num_flows must be at least 1, got {num_flows}")
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        self.num_flows = num_flows
        for name in self._flow_buffers:
            if getattr(self, name) is not None:
                setattr(self, name, self._to_flows(getattr(self, name)))

    def _to_flows(self, statistic: Tensor) -> Tensor:
        return statistic.expand(self.num_flows, *statistic.shape).clone()

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        for name in self._flow_buffers:
            own, given = getattr(self, name), state_dict.get(prefix + name)
            if own is not None and given is not None and given.dim() == own.dim() - 1:
                state_dict[prefix + name] = self._to_flows(given)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_flows={self.num_flows}"

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"{type(self).__name__} expects (N, C, ...), got {input.dim()} dimensions")

    def forward(self, input: Tensor) -> Tensor:
        """Normalize ``(N, C, ...)`` with the batch's or the running flow's statistics; the shape stays."""
        self._check_input_dim(input)
        index = self.flow_index()
        mean = var = None
        if self.track_running_stats:
            assert self.running_mean is not None and self.running_var is not None
            mean, var = self.running_mean[index], self.running_var[index]
        use_batch = self.training or mean is None
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked[index].add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked[index])
        return self._normalize(input, mean, var, use_batch, momentum)

    def flow_index(self) -> int:
        """Index, from 0, of the flow whose statistics are used.

        Raises:
            IndexError: the running flow is not below ``num_flows``.
        """
        running = current_flow()
        index = self.num_flows - 1 if running is None else running
        if not 0 <= index < self.num_flows:
            raise IndexError(f"flow {index} is running, but this norm has num_flows={self.num_flows}")
        return index

    def _normalize(self, input, mean, var, use_batch, momentum) -> Tensor:
        update = self.training and self.track_running_stats
        if use_batch and not update:
            mean = var = None
        return F.batch_norm(input, mean, var, *self.affine_of_flow(), use_batch, momentum, self.eps)

    def affine_of_flow(self) -> tuple[Tensor | None, Tensor | None]:
        """Scale and shift ``(C,)`` of the running flow; None without ``affine``."""
        return self.weight, self.bias

    def synchronized(self, process_group=None) -> MFBN:
        """Make an :class:`MFSyncBN` that shares this norm's parameters and buffers."""
        return adopt(MFSyncBN, self, self.num_flows, process_group)


class MFBN2d(MFBN):
    """:class:`MFBN` over ``(N, C, H, W)``."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 4:
            raise ValueError(f"MFBN2d expects (N, C, H, W), got {input.dim()} dimensions")


class MFBN3d(MFBN):
    """:class:`MFBN` over ``(N, C, T, H, W)``."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 5:
            raise ValueError(f"MFBN3d expects (N, C, T, H, W), got {input.dim()} dimensions")


class MFSyncBN(MFBN):
    """:class:`MFBN` that, in training, computes its batch statistics over all processes.

    It works on every device and backend (gloo and NCCL). Without ``torch.distributed``
    running it is a plain :class:`MFBN`.

    Args:
        process_group: the processes to synchronize; all by default.
    """

    def __init__(self, *args, process_group=None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.process_group = process_group

    def _normalize(self, input, mean, var, use_batch, momentum) -> Tensor:
        dist = torch.distributed
        running = dist.is_available() and dist.is_initialized()
        if not (running and self.training) or dist.get_world_size(self.process_group) == 1:
            return super()._normalize(input, mean, var, use_batch, momentum)
        weight, bias = self.affine_of_flow()
        return sync_batch_norm(input, weight, bias, mean, var, momentum, self.eps, self.process_group)

    def synchronized(self, process_group=None) -> MFBN:
        return self


class _Activated(MFBN):
    """Base of multi-flow norms with what timm's norms have behind the norm: dropout and activation."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))

    def synchronized(self, process_group=None) -> MFBN:
        return _with_act(adopt(MFSyncBNAct, self, self.num_flows, process_group), self)


class MFBNAct2d(_Activated, MFBN2d):
    """:class:`MFBN2d` with dropout and activation, as timm's ``BatchNormAct2d``."""


class MFSyncBNAct(_Activated, MFSyncBN):
    """:class:`MFSyncBN` with dropout and activation, as timm's ``SyncBatchNormAct``."""

    def synchronized(self, process_group=None) -> MFBN:
        return self


_FOR_CLASS = {
    nn.BatchNorm1d: MFBN,
    nn.BatchNorm2d: MFBN2d,
    nn.BatchNorm3d: MFBN3d,
    nn.SyncBatchNorm: MFSyncBN,
}
_FOR_NAME = {
    "timm.layers.norm_act.BatchNormAct2d": MFBNAct2d,
    "timm.layers.norm_act.SyncBatchNormAct": MFSyncBNAct,
}
"""Of libraries that need not be there: by the class that defines the forward."""


def adopt(target: type[MFBN], norm: _BatchNorm, num_flows: int, process_group=None) -> MFBN:
    """Make a ``target`` with the same parameter objects, statistics and mode as ``norm``."""
    options = {"process_group": process_group} if issubclass(target, MFSyncBN) else {}
    adopted = target(
        norm.num_features,
        num_flows,
        norm.eps,
        norm.momentum,
        norm.affine,
        norm.track_running_stats,
        device="meta",
        **options,
    )
    adopted.weight, adopted.bias = norm.weight, norm.bias
    for name in MFBN._flow_buffers:
        statistic = getattr(norm, name)
        if statistic is not None and not isinstance(norm, MFBN):
            statistic = adopted._to_flows(statistic)
        setattr(adopted, name, statistic)
    return adopted.train(norm.training)


def _with_act(adopted: Any, norm: Any) -> MFBN:
    adopted.drop, adopted.act = getattr(norm, "drop", nn.Identity()), norm.act
    return adopted


def convert_multi_flow(module: nn.Module, num_flows: int) -> nn.Module:
    """Replace every batch norm in ``module`` by its multi-flow form.

    Parameters stay the same objects, and every flow starts with the statistics
    of the replaced norm. Norms that are already multi-flow stay.

    Args:
        module: any module.
        num_flows: number of flows, at least 1.

    Returns:
        ``module``, or its replacement if it is itself a batch norm.

    Raises:
        TypeError: a batch norm's class has no known multi-flow form.
    """
    return replace_norms(module, lambda norm: _multi_flow(norm, num_flows))


def replace_norms(module: nn.Module, new: Callable[[_BatchNorm], MFBN]) -> nn.Module:
    """Replace every batch norm in ``module``; returns it, or its replacement if it is itself one."""
    # A norm used in several places stays one norm.
    norms = {norm: new(norm) for norm in module.modules() if isinstance(norm, _BatchNorm)}
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, norms[child])
    return norms[module] if isinstance(module, _BatchNorm) else module


def _multi_flow(norm: _BatchNorm, num_flows: int) -> MFBN:
    if isinstance(norm, MFBN):
        return norm
    for known in type(norm).__mro__:
        if issubclass(known, nn.Module) and known in _FOR_CLASS and type(norm).forward is known.forward:
            return adopt(_FOR_CLASS[known], norm, num_flows, getattr(norm, "process_group", None))
        if "forward" in vars(known):
            target = _FOR_NAME.get(f"{known.__module__}.{known.__qualname__}")
            if target is not None:
                return _with_act(adopt(target, norm, num_flows, getattr(norm, "process_group", None)), norm)
            break
    names = ", ".join(c.__name__ for c in _FOR_CLASS)
    raise TypeError(
        f"{type(norm).__name__} has no multi-flow form; supported are {names} "
        "and subclasses that keep their forward"
    )
