"""The grafts by their names, and when each is applied."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TypeVar

Builder = TypeVar("Builder", bound=Callable)

GRAFTS: dict[str, Callable] = {}
"""Every graft's function by its name in configs, without the scope."""


class Turn(IntEnum):
    """When a graft is applied, whatever its place in the config; those of one turn keep their order."""

    CONVOLUTIONS = 0
    LAYERS = 1
    BLOCKS = 2
    PLACES = 3
    """Layers behind any module: blocks and their parts then run as they will run."""
    FLOWS = 4
    """What runs the whole backbone in flows: a backbone has only one such graft."""
    OUTPUTS = 5
    NETWORK = 6


def graft(name: str, turn: Turn) -> Callable[[Builder], Builder]:
    """Decorate a function ``(backbone, **options) -> new modules`` that is the graft ``attn_mm.<name>``."""

    def register(function: Builder) -> Builder:
        vars(function)["turn"] = turn
        GRAFTS[name] = function
        return function

    return register


def find_graft(name: object) -> Callable | None:
    """The graft of that name in a config, such as ``attn_mm.TD``; None where there is none."""
    scope, _, name = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    return GRAFTS.get(name) if scope == "attn_mm" else None
