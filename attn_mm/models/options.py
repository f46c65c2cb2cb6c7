"""Options of a config, refused in one line where nothing knows them."""

from __future__ import annotations

import inspect
from collections.abc import Callable


def check_options(options: dict, functions: Callable | list[Callable], *given: str) -> None:
    """Raise ValueError where ``options`` has a name that none of ``functions`` takes from a config.

    Args:
        options: what the config says.
        functions: a function or class, or several that share the options.
        given: names of parameters that the caller fills in, which a config can't.
    """
    functions = functions if isinstance(functions, list) else [functions]
    known = [p for function in functions for p in inspect.signature(function).parameters.values()]
    if any(p.kind is p.VAR_KEYWORD and p.name not in given for p in known):
        return
    allowed = list(dict.fromkeys(p.name for p in known if p.name not in given))
    for name in options:
        if name not in allowed:
            raise ValueError(f"expected options of {', '.join(allowed)}, got {name!r}")
