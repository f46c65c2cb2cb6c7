"""What a network attends to, taken down while it runs.

A layer that attends says so by one method::

    def recorded(self, run, *inputs):
        return run(*inputs), [Attention(KIND, values), ...]

``run`` is the layer's own forward, or the method that ``recorded_call`` names, and the output that
it gives is what the network goes on with: recording changes no result. Outside
:func:`record_attention` the method is never called, and no module is changed.

A gate also says what the same call gives without attention::

    def opened(self, run, *inputs):
        return inputs[0]

A layer whose attention stands for that of its parts names them in ``recorded_parts``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from attn_mm.layers.ops.execution import current_flow, no_replays


@dataclass(frozen=True)
class AttentionKind:
    """What the numbers of an attention are; one object for each attention of a paper.

    Attributes:
        name: of the attention, such as "CBAM: where".
        paper: authors, title, place, equation.
        meaning: one sentence: what a high value does.
        over: what the values belong to: ``'positions'`` of the map, its ``'channels'``, or the
            ``'weights'`` of a kernel.
        bounds: the interval that the formula keeps all values in; None where it has none, which
            only positions can do without.
        leads_to: the name in ``place`` of what a map leads to from the one before, ``"flow"`` or ``"step"``;
            of steps the layer's call t makes the input of step t + 1.

    Raises:
        ValueError: there are no ``bounds`` to a distribution over channels or weights.
    """

    name: str
    paper: str
    meaning: str
    over: Literal["positions", "channels", "weights"] = "positions"
    bounds: tuple[float, float] | None = (0.0, 1.0)
    leads_to: Literal["", "flow", "step"] = ""

    def __post_init__(self) -> None:
        if self.bounds is None and self.over != "positions":
            raise ValueError(f"{self.name}: attention over {self.over} needs bounds")


@dataclass
class Attention:
    """One attention of one call of a layer.

    Attributes:
        kind: what the values are.
        values: ``(N, 1, *size)`` over positions, of which ``size`` may differ from the map's;
            ``(N, C, ...)`` over channels; ``(N, ...)`` over weights. Detached.
        place: numbers, from 1, that tell it from the layer's others, such as
            ``{"stage": 1, "flow": 2}``.
    """

    kind: AttentionKind
    values: Tensor
    place: dict[str, int] = field(default_factory=dict)


@dataclass
class Recorded(Attention):
    """An attention, and where in the network it came up.

    Attributes:
        layer: the layer's name in the model.
        call: the how-manieth call of the layer it was, from 1; in a recursion, in the flow.
    """

    layer: str = ""
    call: int = 1


def attending_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of ``model`` whose attention can be recorded, by their names in it."""
    parts = {
        module.get_submodule(part)
        for module in model.modules()
        for part in getattr(module, "recorded_parts", ())
    }
    return {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "recorded") and module not in parts
    }


Call = Callable[..., Any]


@contextmanager
def wrapped_calls(layers: Mapping[str, nn.Module], wrap: Callable[[str, Any, Call], Call]) -> Iterator[None]:
    """While the block runs, the call that each layer's ``recorded`` takes is ``wrap(name, layer, call)``."""
    before: list[tuple[dict[str, Any], str, dict[str, Any]]] = []
    try:
        for name, layer in layers.items():
            call, attributes = getattr(layer, "recorded_call", "forward"), vars(layer)
            before.append((attributes, call, {key: attributes[key] for key in attributes.keys() & {call}}))
            attributes[call] = wrap(name, layer, getattr(layer, call))
        with no_replays():
            yield
    finally:
        for attributes, call, own in before:
            del attributes[call]
            attributes.update(own)


@contextmanager
def record_attention(model: nn.Module) -> Iterator[list[Recorded]]:
    """Take down every attention of ``model`` while the block runs, in the order in which they come up::

        with torch.no_grad(), record_attention(model) as maps:
            model(images)

    The ``place`` of each map names the flow of the recursion that runs, and the step whose input the map
    modulates, where there are such.

    Raises:
        ValueError: the model is in training mode: running statistics would move twice.
    """
    if model.training:
        raise ValueError("attention is recorded in evaluation mode: call model.eval() first")
    maps: list[Recorded] = []
    calls: Counter = Counter()

    def recorder(name: str, layer: Any, run: Call) -> Call:
        def call(*inputs, **options):
            output, found = layer.recorded(run, *inputs, **options)
            flow = current_flow()
            calls[name, flow] += 1
            number = calls[name, flow]
            for attention in found:
                place = dict(attention.place)
                if flow is not None:
                    place.setdefault("flow", flow + 1)
                if attention.kind.leads_to == "step":
                    place.setdefault("step", 1 + number)
                maps.append(Recorded(attention.kind, attention.values.detach(), place, name, number))
            return output

        return call

    with wrapped_calls(attending_layers(model), recorder):
        yield maps
