"""Find modules of any network by glob patterns over their names."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from attn_mm.graft.grafted import find_record

_SHOWN = 6


def place_names(net: nn.Module) -> dict[str, nn.Module]:
    """The modules of ``net`` by all of their names, but for those that grafts have added."""
    added = tuple(f"{name}." for name in added_names(net))
    named = net.named_modules(remove_duplicate=False)
    return {name: module for name, module in named if name and not f"{name}.".startswith(added)}


def added_names(net: nn.Module) -> set[str]:
    """Names of the modules that grafts have added to ``net``, and of those that contain nothing else."""
    record = find_record(net)
    added = set(record.modules if record else ())

    def visit(name: str, module: nn.Module) -> bool:
        inside = [visit(f"{name}.{child}".lstrip("."), part) for child, part in module.named_children()]
        own = next(module.parameters(recurse=False), None) is not None
        if name and inside and all(inside) and not own:
            added.add(name)
        return name in added

    visit("", net)
    return added


def match_modules(net: nn.Module, option: str, patterns: str | Sequence[str]) -> dict[str, nn.Module]:
    """Find the modules whose names match one of the patterns.

    Args:
        net: any network.
        option: name of the option that has the patterns, for messages.
        patterns: one or several. ``*`` and ``?`` match within one part of a name, ``**`` any number of
            parts: ``'layer*.*.conv2'``, ``'**.conv2'``.

    Returns:
        The modules in the network's order by their first matching name.

    Raises:
        ValueError: a pattern matches no module.
    """
    wanted = [patterns] if isinstance(patterns, str) else patterns
    if (
        not isinstance(wanted, list | tuple)
        or not wanted
        or not all(isinstance(p, str) and p for p in wanted)
    ):
        raise ValueError(
            f"{option} must be a pattern over module names, such as 'layer4.*.conv2', got {patterns!r}"
        )
    names = place_names(net)
    matched: dict[str, nn.Module] = {}
    for pattern in wanted:
        parts = pattern.split(".")
        found = {name: module for name, module in names.items() if _matches(parts, name.split("."))}
        if not found:
            raise ValueError(
                f"{option}={pattern!r} matches no module of {type(net).__name__}: {_nearest(parts, names)}"
            )
        matched |= found
    firsts: dict[nn.Module, str] = {}
    for name, module in names.items():
        if name in matched:
            firsts.setdefault(module, name)
    return {name: module for module, name in firsts.items()}


def _matches(pattern: Sequence[str], name: Sequence[str]) -> bool:
    if not pattern:
        return not name
    head, *rest = pattern
    if head == "**":
        return any(_matches(rest, name[start:]) for start in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], head) and _matches(rest, name[1:])


def _nearest(parts: list[str], names: dict[str, nn.Module]) -> str:
    """What the longest part of the pattern that matches something has inside, or the most similar names."""
    if "**" in parts:
        last = parts[-1].strip("*")
        ends = dict.fromkeys(name.rpartition(".")[2] for name in names)
        return f"the nearest names are {_listed(get_close_matches(last, ends, _SHOWN, 0.4) or list(ends))}"
    depth = next(d for d in range(len(parts) - 1, -1, -1) if d == 0 or _any_matches(parts[:d], names))
    inside = dict.fromkeys(
        name.split(".")[depth]
        for name in names
        if name.count(".") >= depth and _matches(parts[:depth], name.split(".")[:depth])
    )
    close = get_close_matches(parts[depth], inside, _SHOWN, 0.5) or list(inside)
    where = f"in {'.'.join(parts[:depth])!r} there are" if depth else "its parts are"
    return f"{where} {_listed(close)}" if close else f"{'.'.join(parts[:depth])!r} has no parts"


def _any_matches(pattern: list[str], names: dict[str, nn.Module]) -> bool:
    return any(_matches(pattern, name.split(".")) for name in names)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
