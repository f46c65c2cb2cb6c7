"""Record a network's attention while it runs.

An attention layer implements one method::

    def recorded(self, run, *inputs):
        return run(*inputs), [Attention(KIND, values), ...]

``run`` is the layer's own forward, or the method named by ``recorded_call``. The network continues
with the output of ``run``: recording changes no result. Outside :func:`record_attention` the method
is never called, and no module is changed.

A gate also implements what the same call returns without attention::

    def opened(self, run, *inputs):
        return inputs[0]

A layer that records attention on behalf of its parts names them in ``recorded_parts``.
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
    """Description of an attention's values; one object for each attention of a paper.

    Attributes:
        name: name of the attention, such as "CBAM: where".
        paper: authors, title, venue, equation.
        meaning: one sentence: what a high value does.
        over: what the values belong to: ``'positions'`` of the map, its ``'channels'``, or the
            ``'weights'`` of a kernel.
        bounds: the interval of all possible values; None if the formula has none, which is allowed
            for positions only.
        leads_to: ``"flow"`` or ``"step"`` if one flow or step makes the map for the next; ``place`` then
            names the next under this key. The layer's call t modulates the input of step t + 1.

    Raises:
        ValueError: attention over channels or weights has no ``bounds``.
    """

    name: str
    paper: str
    meaning: str
    over: Literal["positions", "channels", "weights"] = "positions"
    bounds: tuple[float, float] | None = (0.0, 1.0)
    leads_to: Literal["", "flow", "step"] = ""

    def __post_init__(self) -> None:
        if self.bounds is None and self.over != "positions":
            raise ValueError(f"{self.name}: attention over {self.over} requires bounds")


@dataclass
class Attention:
    """One attention of one call of a layer.

    Attributes:
        kind: description of the values.
        values: ``(N, 1, *size)`` over positions, where ``size`` may differ from the map's;
            ``(N, C, ...)`` over channels; ``(N, ...)`` over weights. Detached.
        place: numbers, from 1, that distinguish it from the layer's other attentions, such as
            ``{"stage": 1, "flow": 2}``.
    """

    kind: AttentionKind
    values: Tensor
    place: dict[str, int] = field(default_factory=dict)


@dataclass
class Recorded(Attention):
    """An attention and where in the network it was recorded.

    Attributes:
        layer: the layer's name in the model.
        call: index, from 1, of the layer's call; in a recursion, counted per flow.
    """

    layer: str = ""
    call: int = 1


def attending_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of ``model`` whose attention can be recorded, by name."""
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
    """In this context, replace each layer's recorded call by ``wrap(name, layer, call)``."""
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
    """Record every attention of ``model`` in this context, in the order of the calls::

        with torch.no_grad(), record_attention(model) as maps:
            model(images)

    Where there are flows or steps, the ``place`` of each map names the running flow of the recursion and
    the step whose input the map modulates.

    Raises:
        ValueError: the model is in training mode, where running statistics would be updated twice.
    """
    if model.training:
        raise ValueError("attention can be recorded in evaluation mode only: call model.eval() first")
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
