"""Whole numbers of a config."""

from __future__ import annotations


def check_whole(name: str, value: object, least: int, most: int | None = None, why: str = "") -> None:
    """Raise ValueError unless ``value`` is a whole number in ``least..most``."""
    if type(value) is not int or value < least or (most is not None and value > most):
        span = f"of at least {least}" if most is None else f"in {least}..{most}"
        raise ValueError(f"{name} must be a whole number {span}{why}, got {value!r}")
