"""The two names under which a layer's width arrives."""

from __future__ import annotations


def one_width(channels: int | None, in_channels: int | None) -> int:
    """The width given as ``channels`` or, by mmcv's plugin builder, as ``in_channels``.

    Raises:
        TypeError: neither or both were given.
    """
    given = [width for width in (channels, in_channels) if width is not None]
    if len(given) != 1:
        raise TypeError("expected the width once, as channels= or as in_channels=")
    return given[0]
