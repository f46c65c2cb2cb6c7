"""Fold a network for deployment: merge every batch norm that follows a convolution into that convolution.

Which convolution a norm follows is known from rules for the module that contains both, not from the order in
which they are registered. A convolution that several norms follow, as in a block with top-down feedback or in
a network with several flows, is copied for each norm. The result computes what the network computes in eval
mode, and can't be trained any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_mm.graft.blocks import FeedbackMixin
from attn_mm.graft.families import FAMILIES, SPLITS
from attn_mm.graft.families.family import Unit
from attn_mm.graft.fold import FlowConv, compose, fold, why_not
from attn_mm.graft.grafted import RunsStagesInFlows, find_record
from attn_mm.graft.swap import as_torch, swap_class, upstream_class
from attn_mm.layers.aw_attention import AWAttention
from attn_mm.layers.closing import ClosesBranch
from attn_mm.layers.td import TopDownAttention

Flows = dict[nn.Module, range]


class Fused(NamedTuple):
    """Result of :func:`fuse`.

    Attributes:
        folded: number of norms folded into convolutions.
        left: for each norm that was not folded, its name and the reason.
    """

    folded: int
    left: dict[str, str]


def fuse(model: nn.Module) -> Fused:
    """Fold the batch norms of ``model`` into its convolutions, in place, and put it into eval mode.

    In blocks with top-down feedback (:class:`attn_mm.graft.blocks.FeedbackMixin`) every step gets its own
    convolutions, and the first matrix of the attention is merged into those convolutions whose output only it
    uses. For a multi-flow norm, every flow that runs it gets its own convolution.

    Norms that no rule covers stay unchanged; the result is exact all the same.

    Args:
        model: any built model.

    Returns:
        The number of folded norms, and the reasons for the others.
    """
    model.eval()
    before = sum(isinstance(module, _BatchNorm) for module in model.modules())
    flows = _flows(model)
    left: dict[nn.Module, str] = {}
    blocks = [block for block in model.modules() if isinstance(block, FeedbackMixin)]
    stepped = {norm for block in blocks for step in _steps(block) for norm in step.values()}
    # Inner modules first: the attention inside a convolution must be folded before the convolution is copied.
    for module in reversed(list(model.modules())):
        for conv_name, norm_name in _pairs(module):
            norm = module.get_submodule(norm_name)
            if isinstance(norm, _BatchNorm) and norm not in stepped:
                _fold_pair(module, conv_name, norm_name, flows, left)
    for block in blocks:
        if not isinstance(block, FoldedFeedbackMixin):
            _fold_feedback(block, flows, left)
    _forget_lost_grafts(model)
    rest = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    unknown = "no known convolution feeds only this norm"
    return Fused(before - len(rest), {name: left.get(norm, unknown) for name, norm in rest.items()})


def _fold_pair(owner: nn.Module, conv_name: str, norm_name: str, flows: Flows, left: dict) -> None:
    conv, norm = as_torch(owner.get_submodule(conv_name)), owner.get_submodule(norm_name)
    reason = why_not(conv, norm)
    if reason:
        left[norm] = reason
        return
    _put(owner, conv_name, fold(conv, norm, flows.get(norm)))
    _put(owner, norm_name, nn.Identity())


def _put(owner: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    owner.get_submodule(parent)._modules[attribute] = module


def _forget_lost_grafts(model: nn.Module) -> None:
    """Remove grafted modules that have been replaced by a copy per flow from the record of their names."""
    module: Any
    for module in model.modules():
        record = find_record(module)
        if record is not None:
            names = dict(module.named_modules())
            record.modules = [name for name in record.modules if name in names]


def _pairs(module: Any) -> Iterator[tuple[str, str]]:
    """Names, within ``module``, of each convolution whose output goes only to a norm, and of that norm."""
    if isinstance(module, nn.Sequential):
        if type(module).forward is nn.Sequential.forward or isinstance(module, RunsStagesInFlows):
            yield from pairwise(name for name in module._modules if name != "anars")
    elif isinstance(module, AWAttention):
        yield from (("conv1", "norm1"), ("conv2", "norm2"))
    elif getattr(module, "norm_name", None) and hasattr(module, "conv"):
        # mmcv's ConvModule.
        order = getattr(module, "order", ())
        if ("conv", "norm") in pairwise(order):
            yield "conv", module.norm_name
    elif (family := FAMILIES.get(_upstream_forward(module))) is not None:
        names = {inner: name for name, inner in module.named_modules()}
        for unit in family.units(module):
            if unit.whole is None and not unit.norm_first and unit.norm in names:
                yield names[unit.conv], names[unit.norm]
    elif _upstream_forward(module) in SPLITS:
        stem = "conv1", getattr(module, "norm1_name", "")
        if set(stem) <= set(module._modules):
            yield stem


def _upstream_forward(module: nn.Module) -> str:
    """The full name of the class that defines the forward that ``module`` had before grafting."""
    upstream = upstream_class(module)
    cls = next(cls for cls in upstream.__mro__ if "forward" in vars(cls))
    return f"{cls.__module__}.{cls.__qualname__}"


def _flows(model: nn.Module) -> Flows:
    """The flows that run each module of a recursion; modules outside it run in all flows."""
    flows: Flows = {}
    owner: Any
    for owner in model.modules():
        if not isinstance(owner, RunsStagesInFlows):
            continue
        stages, count = owner.flow_stages(), owner.flows.number
        first = [max(0, count - len(stages) + index) for index in range(len(stages))]
        flows |= dict.fromkeys(owner.modules(), range(first[0], count))
        for index, stage in enumerate(stages):
            for part in _parts(stage, owner):
                flows |= dict.fromkeys(part.modules(), range(first[index], count))
        for index, attention in enumerate(getattr(owner, "anars", ())):
            # The last flow makes no mask: no flow follows it.
            flows |= dict.fromkeys(attention.modules(), range(first[index], count - 1))
    return flows


def _parts(stage: Callable[[Tensor], Tensor], owner: nn.Module) -> Iterator[nn.Module]:
    """The modules that make up ``stage``, except their ``owner``."""
    if isinstance(stage, nn.Module):
        yield stage
    elif isinstance(stage, partial):
        for argument in stage.args:
            for part in argument if isinstance(argument, list) else [argument]:
                if isinstance(part, nn.Module) and part is not owner:
                    yield part


class FoldedTopDown(nn.Module):
    """The feedback of a block after folding.

    Args:
        attention: the block's attention; its first matrix is merged into ``tops``, or follows the pooling
            there.
        inner: for each pass except the last, the folded re-run units except the last unit.
        tops: for each pass except the last, the module that computes the pooled top from their output.
    """

    def __init__(
        self, attention: TopDownAttention, inner: list[nn.ModuleDict], tops: list[PooledTop]
    ) -> None:
        super().__init__()
        self.attention = attention
        self.inner = nn.ModuleList(inner)
        self.tops = nn.ModuleList(tops)
        self.distance = len(inner[0]) + 1
        # FeedbackMixin reads these: no norms are left to copy from others.
        self.norms, self.norms_given = (), True

    def extra_repr(self) -> str:
        return f"steps={len(self.tops) + 1}, distance={self.distance}"


class PooledTop(nn.Module):
    """Average a convolution's output over space, and multiply it by a matrix if one is left.

    Args:
        conv: the convolution, with its norm folded in, and the matrix too if possible.
        mlp: the matrix as a 1x1 convolution; None if it is merged into ``conv``.
    """

    def __init__(self, conv: nn.Module, mlp: nn.Module | None) -> None:
        super().__init__()
        self.conv = conv
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``(N, h, 1, 1)`` from ``(N, C, *size)``, or ``(N, h, 1, 1, 1)`` for video."""
        space = tuple(range(2, x.dim()))
        conv = self.conv.running() if isinstance(self.conv, FlowConv) else self.conv
        if _commutes_with_mean(conv):
            top = conv(x.mean(space, keepdim=True))
        else:
            top = conv(x).mean(space, keepdim=True)
        return top if self.mlp is None else self.mlp(top)


def _commutes_with_mean(conv: Any) -> bool:
    """Whether ``conv`` applies the same matrix and bias at every position of its input."""
    return (
        type(conv) in (nn.Conv2d, nn.Conv3d)
        and set(conv.kernel_size) == set(conv.stride) == {1}
        and (conv.padding in ("same", "valid") or set(conv.padding) == {0})
    )


class FoldedFeedbackMixin(FeedbackMixin):
    """Mixin: a block with feedback whose passes have their own convolutions."""

    td: FoldedTopDown  # type: ignore[assignment]  # it has what the methods that stay read

    def _branch(self, x: Tensor, gate: ClosesBranch | None) -> Tensor:
        units = self.family.units(self)
        first = len(units) - self.td.distance
        for unit in units[:first]:
            x = self._run(unit, x, unit.norm)
        rerun = units[first:]
        for inner, top_of in zip(self.td.inner, self.td.tops):
            top = x
            for unit in rerun[:-1]:
                top = self._run(
                    unit._replace(conv=inner.get_submodule(unit.name), whole=None), top, unit.norm
                )
            x = self.td.attention.modulate(x, top_of(top))
        for unit in rerun:
            x = self._run(unit, x, unit.norm, gate)
        return x


def _steps(block: FeedbackMixin) -> list[dict[str, Any]]:
    """For every step, the norms of the re-run units by unit name."""
    own = {unit.name: unit.norm for unit in block.rerun()}
    return [own, *({**own, **dict(step.named_children())} for step in block.td.norms)]


def _fold_feedback(block: Any, flows: Flows, left: dict[nn.Module, str]) -> None:
    """Fold the re-run units of ``block`` if all of them can be folded."""
    rerun, steps = block.rerun(), _steps(block)
    if any(unit.name not in block.td.norms[0] or unit.norm_first or unit.before for unit in rerun):
        in_steps = [norm for step in steps for norm in step.values() if isinstance(norm, _BatchNorm)]
        left |= dict.fromkeys(in_steps, "its unit runs again by more than a convolution and this norm")
        return
    reasons = {
        step[unit.name]: why_not(as_torch(unit.conv), step[unit.name]) for unit in rerun for step in steps
    }
    if any(reasons.values()):
        left |= {
            norm: reason or "another norm of the same feedback can't be folded"
            for norm, reason in reasons.items()
        }
        return
    if not rerun:
        return

    def folded(unit: Unit, step: dict[str, nn.Module]) -> nn.Module:
        norm = step[unit.name]
        return fold(unit.conv, norm, flows.get(norm))

    *inner, last = rerun
    attention = block.td.attention
    tops = [_pooled_top(folded(last, step), attention.top_mlp) for step in steps[:-1]]
    convs = [nn.ModuleDict({unit.name: folded(unit, step) for unit in inner}) for step in steps[:-1]]
    names = {module: name for name, module in block.named_modules()}
    for unit in rerun:
        _put(block, names[unit.conv], folded(unit, steps[-1]))
        _put(block, names[steps[0][unit.name]], nn.Identity())
    attention.top_mlp = nn.Identity()
    block.td = FoldedTopDown(attention, convs, tops)
    swap_class(block, FoldedFeedbackMixin)


def _pooled_top(conv: nn.Module, top_mlp: nn.Module) -> PooledTop:
    composed = compose(conv, top_mlp)
    return PooledTop(conv, top_mlp) if composed is None else PooledTop(composed, None)
