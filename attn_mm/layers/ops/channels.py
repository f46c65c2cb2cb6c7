"""The two names under which a layer's width arrives."""

from __future__ import annotations


def one_width(channels: int | None, in_channels: int | None) -> int:
    """The width given as ``channels`` or, by mmcv's plugin builder, as ``in_channels``.

    Raises:
        TypeError: neither or both were given.
    """
    if (channels is None) == (in_channels is None):
        raise TypeError("expected the width once, as channels= or as in_channels=")
    return in_channels if channels is None else channels
