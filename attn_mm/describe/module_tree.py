"""Show a network as a readable tree: equal siblings are merged, added modules are marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_mm.describe.calls import Call, Shape
from attn_mm.describe.counting import count_parameters


class Named(Protocol):
    """What :func:`equal_runs` needs of a node."""

    name: str


T = TypeVar("T", bound=Named)

# Deeper than this only blocks are opened in which something was put.
DEPTH = 3
SUMMARY = 5


@dataclass(frozen=True)
class Amount:
    """Parameters and multiply-adds (conv, full) of a module, including everything inside it."""

    params: int
    conv: int
    full: int


@dataclass
class Node:
    """A module, or several consecutive equal ones.

    Attributes:
        name: name within the parent; for several modules, the first and the last: ``'1-5'``.
        type: class name.
        detail: kernels and widths.
        outputs: output shapes of the last call, without the batch dimension.
        calls: number of calls.
        amount: counts of one module.
        added: ``amount`` minus that of the plain network's module of this name; None without a plain
            network.
        new: whether the plain network has no module of this name.
        repeat: number of equal modules.
        children: the submodules that are shown.
    """

    name: str
    type: str
    detail: str
    outputs: tuple[Shape, ...]
    calls: int
    amount: Amount
    added: Amount | None = None
    new: bool = False
    repeat: int = 1
    children: list[Node] = field(default_factory=list)


def amounts(model: nn.Module, calls: Mapping[str, Sequence[Call]]) -> dict[str, Amount]:
    """Count every module by its dotted name; ``calls`` is from :func:`attn_mm.describe.calls.trace_calls`."""
    found: dict[str, Amount] = {}

    def visit(name: str, module: nn.Module) -> Amount:
        inside = [visit(f"{name}.{child}".lstrip("."), m) for child, m in module.named_children()]
        own = calls.get(name, ())
        # A list is never called, and a head may be called by its methods alone.
        conv = max(sum(call.conv for call in own), sum(a.conv for a in inside))
        full = max(sum(call.full for call in own), sum(a.full for a in inside))
        found[name] = Amount(count_parameters(module).params, conv, full)
        return found[name]

    visit("", model)
    return found


def build_tree(
    model: nn.Module,
    calls: Mapping[str, Sequence[Call]],
    plain: Mapping[str, Amount] | None = None,
    is_block: Callable[[nn.Module], bool] = lambda module: False,
) -> Node:
    """Build the tree of ``model``.

    Args:
        model: the network.
        calls: its calls, see :func:`attn_mm.describe.calls.trace_calls`.
        plain: :func:`amounts` of the network without attention, or of the part of it to compare; None
            without such a network.
        is_block: tells which modules are expanded only if something was added inside.
    """
    found = amounts(model, calls)
    compared = set() if plain is None else {name for name in found if _is_within(name, plain)}
    news = compared - (plain or {}).keys()

    def opened(name: str, module: nn.Module, depth: int) -> bool:
        if not name:
            return True
        if name in news:
            return isinstance(module, nn.ModuleList | nn.ModuleDict)
        return any(new.startswith(f"{name}.") for new in news) or (depth < DEPTH and not is_block(module))

    def node(name: str, module: nn.Module, depth: int) -> Node:
        own = calls.get(name, ())
        amount, added = found[name], None
        if plain is not None and name in compared:
            before = plain.get(name, Amount(0, 0, 0))
            added = Amount(*(getattr(amount, key) - getattr(before, key) for key in vars(before)))
        children = []
        if opened(name, module, depth):
            for child, submodule in module.named_children():
                full_name = f"{name}.{child}".lstrip(".")
                if _is_shown(submodule, bool(calls.get(full_name)) and depth == 0):
                    children.append(node(full_name, submodule, depth + 1))
        return Node(
            name.rpartition(".")[2],
            type(module).__name__,
            _layer(module) if children else describe(module),
            own[-1].shapes if own else (),
            len(own),
            amount,
            added,
            name in news,
            children=list(_collapsed(children)),
        )

    return node("", model, 0)


def _is_within(name: str, plain: Mapping[str, Amount]) -> bool:
    """Whether the module lies in the part that ``plain`` counts, the one with the shortest name."""
    part = min(plain, key=len)
    return not part or f"{name}.".startswith(f"{part}.")


def _is_shown(module: nn.Module, is_called_part: bool) -> bool:
    has_weights = next(module.parameters(), None) is not None
    return has_weights or is_called_part or "Pool" in type(module).__name__


def _collapsed(nodes: Sequence[Node]) -> Iterator[Node]:
    """Merge consecutive equal siblings whose names are numbers."""
    for run in equal_runs(nodes, _key):
        first, last = run[0], run[-1]
        if len(run) > 1:
            first.name, first.repeat = f"{first.name}-{last.name}", len(run)
        yield first


def equal_runs(nodes: Sequence[T], key: Callable[[T], object]) -> Iterator[list[T]]:
    """Split siblings, which have a ``name``, into runs: consecutive equal ones whose names are numbers."""
    run: list[T] = []
    for node in nodes:
        if run and (key(node) != key(run[0]) or not node.name.isdigit()):
            yield run
            run = []
        run.append(node)
    if run:
        yield run


def branches(children: Sequence[T]) -> Iterator[tuple[T, str, str]]:
    """Each child with what its tree draws before the lines below it, and before its own line."""
    for index, child in enumerate(children):
        yield (child, "   ", "└─ ") if index == len(children) - 1 else (child, "│  ", "├─ ")


def _key(node: Node) -> tuple:
    children = tuple((child.name, *_key(child)) for child in node.children)
    return node.type, node.detail, node.outputs, node.calls, node.amount, node.added, node.new, children


def describe(module: nn.Module) -> str:
    """Kernels and widths of a layer, or of the first layers of a larger module."""
    layers = [text for text in map(_layer, module.modules()) if text]
    if isinstance(module, _BatchNorm):
        return str(module.num_features)
    more = ["..."] if len(layers) > SUMMARY else []
    return ", ".join(layers[:SUMMARY] + more)


def _layer(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return f"{module.in_features}>{module.out_features}"
    kernel, stride = getattr(module, "kernel_size", None), getattr(module, "stride", 1)
    # A ConvModule of mmcv's has its convolution's widths, but not its weight.
    if kernel is None or not isinstance(getattr(module, "weight", None), Tensor):
        return ""
    text = f"{size(kernel)} {module.in_channels}>{module.out_channels}"
    if getattr(module, "groups", 1) > 1:
        text += f" groups {module.groups}"
    strides = stride if isinstance(stride, tuple) else (stride,)
    up = "*" if getattr(module, "transposed", False) else "/"
    if max(strides) > 1:
        text += f" {up}{strides[0] if len(set(strides)) == 1 else size(strides)}"
    return text


def size(sides: Sequence[int] | int) -> str:
    """Format ``(3, 3)`` as ``'3x3'``."""
    return "x".join(map(str, sides)) if isinstance(sides, Sequence) else str(sides)


def outputs_text(shapes: Sequence[Shape]) -> str:
    """Format the shapes of an output; of more than three, only the first and the last."""
    texts = [size(shape) for shape in shapes]
    return ", ".join(texts if len(texts) < 4 else [texts[0], "..", texts[-1]])


def thousands(number: int, sign: bool = False) -> str:
    """Format a number with three digits and its unit."""
    plus = "+" if sign and number > 0 else ""
    for scale, unit in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        # 999,950 would round to 1000 k.
        if abs(number) >= scale * 0.9995:
            return f"{plus}{number / scale:#.3g}".rstrip(".") + unit
    return f"{plus}{number}"


def tree_text(root: Node) -> str:
    """Format the tree, one node per line with its numbers in columns; ``+`` marks added modules."""
    header = ["", "output", "calls", "parameters", "MACs", "added", "MACs added"]
    rows = [header, *_rows(root, "", "")]
    if not any(any(row[-2:]) for row in rows[1:]):
        rows = [row[:-2] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:])]
        lines.append("  ".join([*left, *right]).rstrip())
    return "\n".join(lines) + "\n"


def _rows(node: Node, lead: str, branch: str) -> Iterator[list[str]]:
    mark = "+ " if node.new else ""
    times = f" x {node.repeat}" if node.repeat > 1 else ""
    name = f"{node.name}{times}: " if node.name else ""
    detail = f" {node.detail}" if node.detail else ""
    changes = (0, 0) if node.added is None else (node.added.params, node.added.conv)
    yield [
        f"{branch}{mark}{name}{node.type}{detail}",
        outputs_text(node.outputs),
        str(node.calls) if node.calls > 1 else "",
        thousands(node.amount.params * node.repeat),
        thousands(node.amount.conv * node.repeat),
        *(thousands(change * node.repeat, sign=True) if change else "" for change in changes),
    ]
    for child, below, beside in branches(node.children):
        yield from _rows(child, lead + below, lead + beside)
