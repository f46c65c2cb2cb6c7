"""Run layers as their formulas are written, without the exact shortcuts.

The layers compute some products in another order than the papers write them;
the results agree to rounding. Counting operations as a paper counts them, and
timing a shortcut against what it replaces, needs the written order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_enabled = True


def shortcuts_enabled() -> bool:
    """Whether layers may take their exact shortcuts; true unless inside :func:`as_written`."""
    return _enabled


@contextmanager
def as_written() -> Iterator[None]:
    """Within this context every layer computes its formula term by term. Not for use across threads."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before
