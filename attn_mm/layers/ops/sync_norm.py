"""Synchronized batch normalization over the batches of all processes, on any device and backend.

Ioffe & Szegedy, Batch Normalization, ICML 2015 (https://arxiv.org/abs/1502.03167),
with the mean and variance of the joint batch. ``torch.nn.SyncBatchNorm`` only has
CUDA kernels; this version also trains on CPU processes over gloo.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from attn_mm.layers.ops.dims import per_channel
from attn_mm.layers.ops.execution import not_compiled


def _joint_statistics(x: Tensor, group) -> tuple[Tensor, Tensor, Tensor]:
    """Mean ``(C,)``, biased variance ``(C,)`` and element count per channel of the joint batch."""
    dims = [0, *range(2, x.dim())]
    var, mean = torch.var_mean(x, dims, correction=0)
    count = mean.new_full((1,), x.numel() / x.shape[1])
    mine = torch.cat([mean, var, count])
    gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, mine, group=group)
    means, variances, counts = torch.stack(gathered).split([len(mean), len(mean), 1], dim=1)
    weights = counts / counts.sum()
    mean = (weights * means).sum(0)
    # Combining centred moments keeps the precision that E[x^2] - E[x]^2 loses.
    var = (weights * (variances + (means - mean).square())).sum(0)
    return mean, var, counts.sum()


class _SyncBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, momentum, eps, group):
        # Half-precision sums over a whole batch overflow or lose precision.
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean, var, count = _joint_statistics(wide, group)
        inv_std = (var + eps).rsqrt()
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)
        scale = inv_std if weight is None else inv_std * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        ctx.save_for_backward(x, weight, mean, inv_std, count)
        ctx.group = group
        return torch.addcmul(per_channel(shift, x), wide, per_channel(scale, x)).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        x, weight, mean, inv_std, count = ctx.saved_tensors
        dims = [0, *range(2, x.dim())]
        wide = grad.to(mean.dtype)
        normed = (x.to(mean.dtype) - per_channel(mean, x)) * per_channel(inv_std, x)
        sum_grad, sum_grad_normed = wide.sum(dims), (wide * normed).sum(dims)
        grad_weight = sum_grad_normed.to(weight.dtype) if weight is not None else None
        grad_bias = sum_grad.to(weight.dtype) if weight is not None else None
        sums = torch.stack([sum_grad, sum_grad_normed])
        dist.all_reduce(sums, group=ctx.group)
        mean_grad, mean_grad_normed = (sums / count).unbind()
        scale = inv_std if weight is None else inv_std * weight
        grad_x = wide - per_channel(mean_grad, x) - normed * per_channel(mean_grad_normed, x)
        grad_x = (grad_x * per_channel(scale, x)).to(x.dtype)
        return grad_x, grad_weight, grad_bias, None, None, None, None, None


# Collectives can't be compiled.
_uncompiled = not_compiled(_SyncBatchNorm.apply)


def sync_batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    group=None,
) -> Tensor:
    """Normalize ``x`` ``(N, C, ...)`` with the joint statistics of all processes.

    Processes may have different batch sizes. Gradients of ``weight`` and ``bias`` are local
    sums, as ``DistributedDataParallel`` expects.

    Args:
        x: this process's batch, ``(N, C, ...)``.
        weight, bias: ``(C,)`` or None.
        running_mean, running_var: ``(C,)``, updated in place with the joint mean and unbiased
            variance; or None.
        momentum: weight of the joint statistics in that update.
        eps: added to the variance.
        group: the processes; all by default.

    Returns:
        The normalized batch, of the shape and type of ``x``.
    """
    return _uncompiled(x, weight, bias, running_mean, running_var, momentum, eps, group)
