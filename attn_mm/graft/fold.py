"""Batch norms with fixed statistics, folded into the convolutions before them.

With its running mean m and variance v, a batch norm (Ioffe & Szegedy, https://arxiv.org/abs/1502.03167)
multiplies each channel by a = gamma / sqrt(v + eps) and adds beta - a m; folding puts
both into the weights and bias of the convolution before it. A convolution that several norms share is
copied for each of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_mm.layers import MFBN, AAConv2d, AWConv2d, AWConv3d
from attn_mm.layers.ops.execution import current_flow, is_watched
from attn_mm.layers.ops.pooled_conv import PooledConv2d

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_DECONVS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# AW-convolutions scale their output channels before the bias, which leaves room for one scale more.
_FORWARDS = {cls.forward for cls in (*_CONVS, *_DECONVS, PooledConv2d, AAConv2d, AWConv2d, AWConv3d)}
_NORM_FORWARDS = {cls.forward for cls in (_BatchNorm, nn.SyncBatchNorm, MFBN)}


class FlowConv(nn.Module):
    """A copy of a convolution for each flow, with that flow's norm folded in.

    Outside any :func:`~attn_mm.layers.flow` block the last copy runs.

    Args:
        convs: the copies, by flow from 0.
    """

    def __init__(self, convs: dict[int, nn.Module]) -> None:
        super().__init__()
        self.convs = nn.ModuleDict({str(flow): conv for flow, conv in sorted(convs.items())})
        self.last = max(convs)

    @property
    def weight(self) -> Tensor:
        """The running flow's weight."""
        return self.running().get_parameter("weight")

    def running(self) -> nn.Module:
        """The running flow's copy."""
        flow = current_flow()
        return self.convs[str(self.last if flow is None else flow)]

    def forward(self, x: Tensor) -> Tensor:
        return self.running()(x)


def why_not(conv: nn.Module, norm: nn.Module) -> str:
    """Why ``norm`` can't be folded into ``conv``; an empty string where it can."""
    kind = type(norm).__name__
    if type(norm).forward not in _NORM_FORWARDS:
        return f"{kind} doesn't compute a batch norm"
    if norm.running_mean is None:
        return f"{kind} has no running statistics"
    if type(conv).forward not in _FORWARDS or _has_own_product(conv):
        return f"the {type(conv).__name__} before it is not a supported convolution"
    for module in (conv, norm):
        if is_watched(module):
            return f"{type(module).__name__} has hooks or a replaced forward, which would be lost"
    if isinstance(conv, (*_CONVS, *_DECONVS)) and "weight" not in conv._parameters:
        return f"the weight of the {type(conv).__name__} before it is parametrized"
    return ""


def _has_own_product(conv: nn.Module) -> bool:
    plain = next((cls for cls in _CONVS if isinstance(conv, cls)), None)
    own: Any = type(conv)
    return plain is not None and own._conv_forward is not plain._conv_forward


def fold(conv: nn.Module, norm: nn.Module, flows: Iterable[int] | None = None) -> nn.Module:
    """A new module that computes ``norm(conv(x))`` in eval mode, of the type and on the device of ``conv``.

    Args:
        conv, norm: those for which :func:`why_not` finds nothing.
        flows: of a multi-flow norm, the flows that run it; None is all.
    """
    assert isinstance(norm, _BatchNorm)
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None and var is not None
    if not isinstance(norm, MFBN):
        return _folded(conv, norm, mean, var)
    flows = range(norm.num_flows) if flows is None else flows
    convs = {n: _folded(conv, norm, mean[n], var[n]) for n in flows}
    return FlowConv(convs) if len(convs) > 1 else next(iter(convs.values()))


@torch.no_grad()
def _folded(conv: nn.Module, norm: _BatchNorm, mean: Tensor, var: Tensor) -> nn.Module:
    scale = (var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    new = copy.deepcopy(conv)
    if isinstance(conv, AAConv2d):
        of_conv = conv.out_channels - conv.dv
        _scale(new.conv, scale[:of_conv], shift[:of_conv])
        _scale(new.out, scale[of_conv:], shift[of_conv:])
    else:
        _scale(new, scale, shift)
    return new.eval()


def _scale(conv: Any, scale: Tensor, shift: Tensor) -> None:
    """Multiply the output channels of ``conv``, bias included, by ``scale`` and add ``shift``, in place."""
    weight = conv.weight.double()
    ones = [1] * (weight.dim() - 2)
    if isinstance(conv, _DECONVS):
        # (in, out / groups, ...): the outputs of a group follow from the inputs of that group.
        groups = weight.unflatten(0, (conv.groups, -1))
        weight = (groups * scale.view(conv.groups, 1, -1, *ones)).flatten(0, 1)
    else:
        weight = weight * scale.view(-1, 1, *ones)
    bias = shift if conv.bias is None else conv.bias.double() * scale + shift
    conv.weight, conv.bias = (
        nn.Parameter(tensor.to(conv.weight.dtype), conv.weight.requires_grad) for tensor in (weight, bias)
    )


@torch.no_grad()
def compose(conv: nn.Module, after: nn.Module) -> nn.Module | None:
    """One convolution that computes ``after(conv(x))``, ``after`` being a 1x1 convolution without a bias.

    None where there is none: ``conv`` has groups, or weights of each sample.
    """
    if isinstance(conv, FlowConv):
        composed = {int(flow): compose(own, after) for flow, own in conv.convs.items()}
        convs = {flow: own for flow, own in composed.items() if own is not None}
        return FlowConv(convs) if len(convs) == len(composed) else None
    if not isinstance(conv, _CONVS) or isinstance(conv, (AWConv2d, AWConv3d)) or conv.groups > 1:
        return None
    matrix = after.get_parameter("weight").flatten(1).double()
    new = copy.deepcopy(conv)
    new.out_channels = len(matrix)
    weight = (matrix @ conv.weight.double().flatten(1)).unflatten(1, conv.weight.shape[1:])
    new.weight = nn.Parameter(weight.to(conv.weight.dtype), conv.weight.requires_grad)
    if conv.bias is not None:
        bias = matrix @ conv.bias.double()
        new.bias = nn.Parameter(bias.to(conv.bias.dtype), conv.weight.requires_grad)
    return new
