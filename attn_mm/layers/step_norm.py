"""Batch normalization for the computation steps of a whole network: a norm of its own for each step.

Jaiswal, Fernando & Tan, TDAM, ECCV 2022 (https://arxiv.org/abs/2111.13470), section 3: "we use unique batch
normalization layers for each computation step". Inside a block, :class:`attn_mm.graft.blocks.TopDown` has
these norms as modules. Over a whole network they are one module with a row for each step; the running step is
the running :func:`~attn_mm.layers.flow`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_mm.layers.mfbn import MFBN, MFSyncBN, adopt, replace_norms


class StepBN(MFBN):
    """:class:`MFBN` whose scale and shift are ``(num_flows, C)``: each step has its own, too."""

    def __init__(self, num_features: int, num_flows: int, *args, **kwargs) -> None:
        super().__init__(num_features, num_flows, *args, **kwargs)
        self.own_affine()

    def own_affine(self) -> None:
        """Give each step a copy of a scale and a shift ``(C,)``."""
        for name in ("weight", "bias"):
            given = getattr(self, name)
            if given is not None and given.dim() == 1:
                setattr(self, name, nn.Parameter(self._to_flows(given.detach()), given.requires_grad))

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        for name in ("weight", "bias"):
            given = state_dict.get(prefix + name)
            if given is not None and given.dim() == 1:
                state_dict[prefix + name] = self._to_flows(given)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, input: Tensor) -> Tensor:
        # A forward of its own: what folds norms, or computes them in another way, has one scale for all.
        return super().forward(input)

    def affine_of_flow(self) -> tuple[Tensor | None, Tensor | None]:
        index = self.flow_index()
        return (None, None) if self.weight is None else (self.weight[index], self.bias[index])

    def synchronized(self, process_group=None) -> MFBN:
        return adopt(StepSyncBN, self, self.num_flows, process_group)


class StepSyncBN(StepBN, MFSyncBN):
    """:class:`StepBN` with the batch statistics of all processes, as :class:`MFSyncBN`."""

    def synchronized(self, process_group=None) -> MFBN:
        return self


def convert_steps(module: nn.Module, steps: int) -> nn.Module:
    """Replace every batch norm in ``module`` by one with a copy of it for each step.

    Args:
        module: any module.
        steps: number of steps, at least 1.

    Returns:
        ``module``, or its replacement if it is itself a batch norm.

    Raises:
        TypeError: a batch norm's class has a forward of its own.
    """

    def new(norm: _BatchNorm) -> MFBN:
        if type(norm).forward not in (_BatchNorm.forward, nn.SyncBatchNorm.forward):
            raise TypeError(f"{type(norm).__name__} computes more than a batch norm: it can't have steps")
        synchronized = isinstance(norm, nn.SyncBatchNorm)
        group = getattr(norm, "process_group", None)
        steps_norm = adopt(StepSyncBN if synchronized else StepBN, norm, steps, group)
        assert isinstance(steps_norm, StepBN)
        steps_norm.own_affine()
        return steps_norm

    with torch.no_grad():
        return replace_norms(module, new)
