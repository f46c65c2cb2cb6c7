"""Check the options of a config: unknown names and wrong values are errors of one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable


def check_whole(name: str, value: object, least: int, most: int | None = None, why: str = "") -> None:
    """Raise ValueError unless ``value`` is a whole number in ``least..most``.

    Args:
        name: name of the option.
        value: its value in the config.
        least: smallest allowed value.
        most: largest allowed value; None for no limit.
        why: reason for the limits, appended to them in the message.
    """
    if type(value) is not int or value < least or (most is not None and value > most):
        span = f"of at least {least}" if most is None else f"in {least}..{most}"
        raise ValueError(f"{name} must be a whole number {span}{why}, got {value!r}")


def check_options(options: dict, functions: Callable | list[Callable], *given: str) -> None:
    """Raise ValueError if ``options`` has a name that none of ``functions`` accepts.

    Args:
        options: the options in the config.
        functions: a function or class, or several that share the options.
        given: names of parameters that the caller fills in, so that a config can't set them.
    """
    functions = functions if isinstance(functions, list) else [functions]
    known = [p for function in functions for p in inspect.signature(function).parameters.values()]
    if any(p.kind is p.VAR_KEYWORD and p.name not in given for p in known):
        return
    allowed = list(dict.fromkeys(p.name for p in known if p.name not in given))
    for name in options:
        if name not in allowed:
            raise ValueError(f"unknown option {name!r}; expected one of {', '.join(allowed)}")
