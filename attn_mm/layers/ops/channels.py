"""Read a layer's number of channels from either of its two option names."""

from __future__ import annotations


def one_width(channels: int | None, in_channels: int | None) -> int:
    """Return the number of channels, given as ``channels`` or, by mmcv's plugin builder, as ``in_channels``.

    Raises:
        TypeError: both or neither are given.
    """
    given = [width for width in (channels, in_channels) if width is not None]
    if len(given) != 1:
        raise TypeError("expected the number of channels once, as channels= or in_channels=")
    return given[0]
