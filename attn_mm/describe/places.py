"""Where attention can go in a network, and what the network is: for any torch network.

The network runs once on the meta device, which computes shapes only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from attn_mm.describe.calls import trace_calls
from attn_mm.describe.counting import on_meta
from attn_mm.describe.module_tree import Node, branches, build_tree, describe, equal_runs, size, tree_text
from attn_mm.errors import ConfigError
from attn_mm.graft.behind import is_map
from attn_mm.graft.places import added_names
from attn_mm.graft.probe import CannotRun, Outputs, float_type, run_on_example
from attn_mm.graft.units import find_family


@dataclass
class Place:
    """A module behind which attention can go, or several equal ones.

    Attributes:
        name: its name in its parent; of several, the first and the last: ``'1-5'``.
        type: its class.
        detail: kernels and widths of a layer.
        channels: channels of the map that it gives; None where it gives no map.
        stride: how many pixels of the input's side one of the map's spans; None where it gives no map.
        calls: how often it runs in a forward pass; 0 where it never runs by itself.
        parts: the modules in it.
    """

    name: str
    type: str
    detail: str
    channels: int | None
    stride: float | None
    calls: int
    parts: list[Place] = field(default_factory=list)

    def __str__(self) -> str:
        """The tree, one place a line: the names that ``after`` and ``convs`` can use."""
        rows = [("", "channels", "stride"), *_rows(self, "", "")]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        return "\n".join(
            f"{row[0]:{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}".rstrip() for row in rows
        )


def list_places(net: nn.Module, input_size: Sequence[int] | None = None) -> Place:
    """List the modules of a network as a tree, with the channels and the stride of their maps.

    ::

        print(attn_mm.list_places(torchvision.models.resnet18()))

    Args:
        net: any network.
        input_size: the size of one input without the batch, such as ``(3, 224, 224)``; needed only where
            the network doesn't run on images or clips of usual sizes.

    Returns:
        The network as a :class:`Place`; as text it is the tree. Modules that grafts have added are left out.

    Raises:
        ConfigError: the network doesn't run on such an input.
    """
    if not isinstance(net, nn.Module):
        raise ConfigError(f"a torch.nn.Module is needed, got {type(net).__name__}")
    try:
        inputs = () if input_size is None else (_input(net, input_size),)
        outputs, used = run_on_example(net, net.modules(), *inputs)
    except CannotRun as error:
        raise ConfigError(f"{error}: give input_size, such as (3, 224, 224)") from error
    added, side = added_names(net), _longest_row(used)

    def place(name: str, module: nn.Module) -> Place:
        given = outputs.get(module, [])
        shape = given[-1] if given and is_map(given[-1]) else None
        parts = [
            place(full, child)
            for child_name, child in module.named_children()
            if (full := f"{name}.{child_name}".lstrip(".")) not in added and _has_places(child, outputs)
        ]
        return Place(
            name.rpartition(".")[2],
            type(module).__name__,
            "" if parts else describe(module),
            None if shape is None else shape[1],
            None if shape is None else side / shape[-1],
            len(given),
            list(_collapsed(parts)),
        )

    return place("", net)


def _has_places(module: nn.Module, outputs: Outputs) -> bool:
    """Whether something in ``module`` runs; losses, for one, don't."""
    return any(part in outputs for part in module.modules())


def _longest_row(inputs: object) -> int:
    """The width of the input; of the finest map where there are several."""
    if isinstance(inputs, torch.Tensor):
        return inputs.shape[-1]
    return max(map(_longest_row, inputs)) if isinstance(inputs, list | tuple) else 0


def _input(net: nn.Module, input_size: Sequence[int]) -> torch.Tensor:
    if not isinstance(net, nn.Module):
        raise ConfigError(f"a torch.nn.Module is needed, got {type(net).__name__}")
    if (
        not isinstance(input_size, Sequence)
        or not input_size
        or any(type(side) is not int or side < 1 for side in input_size)
    ):
        raise ConfigError(f"input_size must be whole numbers such as (3, 224, 224), got {input_size!r}")
    return torch.empty(1, *input_size, device="meta", dtype=float_type(net))


def _collapsed(places: list[Place]) -> Iterator[Place]:
    """Merge consecutive equal places whose names are numbers."""
    for run in equal_runs(places, _key):
        first, last = run[0], run[-1]
        if len(run) > 1:
            first.name = f"{first.name}-{last.name}"
        yield first


def _key(place: Place) -> tuple:
    parts = tuple((part.name, *_key(part)) for part in place.parts)
    return place.type, place.detail, place.channels, place.stride, place.calls, parts


def _rows(place: Place, lead: str, branch: str) -> Iterator[tuple[str, str, str]]:
    name = f"{place.name}: " if place.name else ""
    detail = f" {place.detail}" if place.detail else ""
    note = "" if place.calls == 1 else f" ({place.calls} calls)" if place.calls else " (not run by itself)"
    stride = "" if place.stride is None else f"{place.stride:g}"
    channels = "" if place.channels is None else str(place.channels)
    yield f"{branch}{name}{place.type}{detail}{note}", channels, stride
    for part, below, beside in branches(place.parts):
        yield from _rows(part, lead + below, lead + beside)


@dataclass
class Summary:
    """What a network is and costs.

    Attributes:
        input_size: the size of the input, without the batch.
        parameters: number of parameters.
        macs: multiply-adds of convolutions, linear layers and matrix products for one input.
        tree: the modules with their outputs and costs.
    """

    input_size: tuple[int, ...]
    parameters: int
    macs: int
    tree: Node

    def __str__(self) -> str:
        return (
            f"Input {size(self.input_size)}; {self.parameters:,} parameters; "
            f"{self.macs / 1e9:.3f} G multiply-adds\n\n{tree_text(self.tree)}"
        )


def summary(net: nn.Module, input_size: Sequence[int]) -> Summary:
    """Summarize a network: its modules with their outputs, parameters and multiply-adds.

    ::

        print(attn_mm.summary(net, (3, 224, 224)))

    Args:
        net: any network.
        input_size: the size of one input, without the batch.

    Returns:
        The summary; as text it is a tree.

    Raises:
        ConfigError: the network doesn't run on such an input.
    """
    x = _input(net, input_size)
    try:
        calls = trace_calls(on_meta(net), x)
    # What depends on values needs real ones.
    except Exception:
        try:
            calls = trace_calls(net, torch.rand(x.shape, dtype=x.dtype))
        except Exception as error:
            reason = str(error).partition("\n")[0][:100]
            shape = size(tuple(input_size))
            raise ConfigError(f"{type(net).__name__} doesn't run on an input of {shape}: {reason}") from error
    tree = build_tree(net, calls, is_block=lambda module: find_family(module) is not None)
    return Summary(tuple(input_size), tree.amount.params, tree.amount.conv, tree)
