"""Options of a config: each known, each in its range, or refused in one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable


def check_whole(name: str, value: object, least: int, most: int | None = None, why: str = "") -> None:
    """Raise ValueError unless ``value`` is a whole number in ``least..most``."""
    if type(value) is not int or value < least or (most is not None and value > most):
        span = f"of at least {least}" if most is None else f"in {least}..{most}"
        raise ValueError(f"{name} must be a whole number {span}{why}, got {value!r}")


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
