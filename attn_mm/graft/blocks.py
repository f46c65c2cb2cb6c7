"""Blocks with attention: layers behind their units, and top-down feedback over their last units."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from attn_mm.graft.families.family import Family, Unit
from attn_mm.graft.swap import swap_class
from attn_mm.graft.units import GraftedBlock, other_forwards, record_of_block
from attn_mm.layers.closing import ClosesBranch
from attn_mm.layers.forms.td import pooled_conv_norm
from attn_mm.layers.ops.execution import is_shown, is_traced, may_overwrite
from attn_mm.layers.td import TopDownAttention

_MERGED = "switch_to_deploy merged convolutions that attention works between: deploy the plain network"


class AttendedMixin(nn.Module):
    """Mixin: the block runs its units in turn, and after each the layers that grafts put behind it."""

    attn_mm: GraftedBlock
    drop_path: nn.Module
    """Only in blocks that have one."""

    @property
    def attended(self) -> nn.ModuleDict:
        """The layers behind a unit, by the unit's name."""
        layers = getattr(self, self.attn_mm.layers)
        assert isinstance(layers, nn.ModuleDict)
        return layers

    @property
    def family(self) -> Family:
        """How the block is read and closed."""
        return self.attn_mm.family

    def forward(self, x: Tensor, *others) -> Tensor:
        return self.family.finish(self, self._sum(x, *others))

    def _sum(self, x: Tensor, *others) -> Tensor:
        if self.family.checkpoints(self) and x.requires_grad:
            return checkpoint(self._with_shortcut, x, *others, use_reentrant=False)
        return self._with_shortcut(x, *others)

    def _with_shortcut(self, x: Tensor, *others) -> Tensor:
        x = self.family.enter(self, x)
        if self.family.join is not None:
            return self.family.join(self, x, self._branch(x, None))
        gate = self._closing_gate()
        branch = self._branch(x, gate)
        shortcut = self.family.shortcut(self, x, *others)
        if shortcut is None:
            return branch if gate is None else gate(branch)
        if gate is None and hasattr(self, "drop_path"):
            branch = self.drop_path(branch)
        if gate is not None:
            return gate.add_to(shortcut, branch)
        if self._needs_branch() or branch.dtype != shortcut.dtype:
            return branch + shortcut
        return branch.add_(shortcut)

    def _closing_gate(self) -> ClosesBranch | None:
        """The layer at the branch's end, if it can add the shortcut as well."""
        layers = self._closing_layers()
        last = layers[-1] if layers else None
        if not isinstance(last, ClosesBranch) or not last.can_add():
            return None
        if not self._passes_branch() or any(map(is_shown, layers)):
            return None
        return None if may_overwrite() and self._shows_input_of_gate(layers) else last

    def _shows_input_of_gate(self, layers: list[nn.Module]) -> bool:
        """Whether hooks see, and may keep, the map that the last of ``layers`` would overwrite."""
        unit = self.family.units(self)[-1]
        parts = (unit.conv, unit.norm, unit.act, unit.whole, *unit.then, *unit.parts, *layers[1:-1])
        modules = (part for part in parts if isinstance(part, nn.Module))
        return any(is_shown(module) for part in modules for module in part.modules())

    def _passes_branch(self) -> bool:
        """Whether nothing between the gate and the sum changes the branch now, or is shown it."""
        drop: Any = getattr(self, "drop_path", None)
        if drop is None:
            return True
        passes = type(drop) is nn.Identity or (type(drop).__name__ == "DropPath" and not drop.training)
        return passes and not is_shown(drop)

    def _needs_branch(self) -> bool:
        """Whether the branch's output may be needed beside the sum: by autograd, or by who is shown it.

        A trace is the same with gradients and without: torch.jit.trace checks that.
        """
        parts = (part for layer in self._closing_layers()[:1] for part in layer.modules())
        return torch.is_grad_enabled() or is_traced() or any(map(is_shown, parts))

    def _closing_layers(self) -> list[nn.Module]:
        """What is behind the last unit: the sequence, and the layers in it."""
        last = self.attn_mm.last_unit
        if last not in self.attended:
            return []
        layers = self._behind(last)
        return [layers, *layers]

    def _behind(self, unit: str) -> nn.Sequential:
        layers = self.attended[unit]
        assert isinstance(layers, nn.Sequential)
        return layers

    def _units(self) -> list[Unit]:
        """The units as they are now.

        Raises:
            RuntimeError: they have been merged, so that attention between them would be lost.
        """
        units = self.family.units(self)
        if not self.attended.keys() <= {unit.name for unit in units}:
            raise RuntimeError(_MERGED)
        return units

    def _branch(self, x: Tensor, gate: ClosesBranch | None) -> Tensor:
        """The branch's output, but for ``gate`` at its end."""
        for unit in self._units():
            x = self._run(unit, x, unit.norm, gate)
        return x

    def _run(self, unit: Unit, x: Tensor, norm: nn.Module | None, gate: ClosesBranch | None = None) -> Tensor:
        x = unit.run(x, norm)
        if unit.name not in self.attended:
            return x
        layers = self._behind(unit.name)
        return layers(x) if gate is None or layers[-1] is not gate else layers[:-1](x)


class RecursiveMixin(AttendedMixin):
    """Mixin of DetectoRS's blocks: the layers run in its recursive pyramid's pass over the backbone, too."""

    prefix = "Attended"
    rfp_inplanes: int | None
    rfp_conv: nn.Module
    """Only in blocks that get features of the pyramid."""

    def rfp_forward(self, x: Tensor, rfp_feat: Tensor | None) -> Tensor:
        """The block's second forward, which adds the pyramid's features of the pass before."""
        out = self._sum(x)
        if self.rfp_inplanes:
            out = out + self.rfp_conv(rfp_feat)
        return self.family.finish(self, out)


def attend(block: Any) -> Any:
    """Make ``block``, in place, run its units in turn. No layers follow them yet.

    Raises:
        TypeError: the block has a further forward, in which the layers would not run.
    """
    if isinstance(block, AttendedMixin):
        return block
    ways = set(other_forwards(block))
    if unknown := ways - {"rfp_forward"}:
        raise TypeError(
            f"{type(block).__name__} also runs by {', '.join(sorted(unknown))}, which grafts don't reach: "
            "graft onto a backbone without it"
        )
    record = record_of_block(block)
    record.last_unit = record.family.units(block)[-1].name
    if hasattr(block, record.layers):
        record.layers = "attn_layers"
    setattr(block, record.layers, nn.ModuleDict())
    return swap_class(block, RecursiveMixin if ways else AttendedMixin)


class TopDown(nn.Module):
    """The modules that feedback adds to a block: the attention, and the re-run units' batch norms per step.

    Args:
        attention: computes the next input of the first re-run unit.
        units: the re-run units; a step's batch norms start as copies of theirs, other norms serve all steps.
        steps: T, passes over the units.
    """

    def __init__(self, attention: TopDownAttention, units: list[Unit], steps: int) -> None:
        super().__init__()
        self.attention = attention
        # Only batch norms have statistics, which differ between the steps.
        norms = {unit.name: unit.norm for unit in units if isinstance(unit.norm, _BatchNorm)}
        self.norms = nn.ModuleList(
            nn.ModuleDict({name: copy.deepcopy(norm) for name, norm in norms.items()})
            for _ in range(1, steps)
        )
        self.distance = len(units)
        self.norms_given = False

    def extra_repr(self) -> str:
        return f"steps={len(self.norms) + 1}, distance={self.distance}"


class FeedbackMixin(AttendedMixin):
    """Mixin: the last units run again, on their input modulated by their output."""

    td: TopDown

    def _closing_gate(self) -> ClosesBranch | None:
        # Without a unit that runs again, the feedback modulates what the gate has let through.
        return super()._closing_gate() if self.td.distance else None

    def rerun(self) -> list[Unit]:
        """The units that run again."""
        units = self.family.units(self)
        return units[len(units) - self.td.distance :]

    def _branch(self, x: Tensor, gate: ClosesBranch | None) -> Tensor:
        units = self._units()
        first = len(units) - self.td.distance
        for unit in units[:first]:
            x = self._run(unit, x, unit.norm)
        rerun = units[first:]
        norms: Any = {unit.name: unit.norm for unit in rerun}
        for step_norms in self.td.norms:
            x = self.td.attention.modulate(x, self._top(rerun, x, norms))
            norms = {**norms, **dict(step_norms.named_children())}
        for unit in rerun:
            x = self._run(unit, x, norms[unit.name], gate)
        return x

    def _units(self) -> list[Unit]:
        units = super()._units()
        norms = {unit.name: unit.norm for unit in units}
        for step_norms in self.td.norms:
            for name, _ in step_norms.named_children():
                if norms.get(name) is None:
                    raise RuntimeError(_MERGED)
                if isinstance(norms[name], nn.Identity):
                    raise RuntimeError(
                        "fuse_conv_bn folded one step's norm into shared convolutions: use "
                        "attn_mm.graft.fuse.fuse"
                    )
        return units

    def _top(self, units: list[Unit], x: Tensor, norms: dict[str, nn.Module | None]) -> Tensor:
        """The pooled top features: those of the branch's last norm, before what is behind it."""
        space = tuple(range(2, x.dim()))
        if not units:
            return x.mean(space)
        *inner, last = units
        for unit in inner:
            x = self._run(unit, x, norms[unit.name])
        for step in last.before:
            x = step(x)
        norm = norms[last.name]
        if norm is None:
            return last.convolve(x).mean(space)
        if last.norm_first:
            return last._replace(before=(), then=()).run(x, norm).mean(space)
        return pooled_conv_norm(x, last.conv, norm)

    def _norm_names(self) -> dict[str, str]:
        """``{step norm's name: repeated norm's name}``, names within the block."""
        names = {module: name for name, module in self.named_modules()}
        units: Any = {unit.name: unit.norm for unit in self.family.units(self)}
        return {
            names[norm]: names[units[unit_name]]
            for step_norms in self.td.norms
            for unit_name, norm in step_norms.named_children()
        }

    def repeat_norms(self) -> None:
        """Copy the repeated norms into every step's norms, unless a checkpoint has set them."""
        if self.td.norms_given:
            return
        for step, repeated in self._norm_names().items():
            self.get_submodule(step).load_state_dict(self.get_submodule(repeated).state_dict())

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        # A checkpoint of the plain network has no step norms: they repeat those that it has.
        for step, repeated in self._norm_names().items():
            for key in self.get_submodule(step).state_dict():
                own, source = f"{prefix}{step}.{key}", f"{prefix}{repeated}.{key}"
                if source in state_dict:
                    state_dict.setdefault(own, state_dict[source])
                    self.td.norms_given = True
        super()._load_from_state_dict(state_dict, prefix, *args)
