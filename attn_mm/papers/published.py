"""A published network, and how a count agrees with a published figure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

_UNITS = {"": 1, "M": 10**6, "G": 10**9, "Gi": 2**30}
_FIGURE = re.compile(r"([\d,]+(?:\.(\d+))?) ?(M|Gi|G|)")

Agreement = Literal["unit", "digits", "differs"]


@dataclass(frozen=True)
class Row:
    """A network and what is published of it.

    Attributes:
        where: the paper, and the table or section in it.
        network: its name in the table below.
        config: the path of its config, from ``configs/`` on.
        options: what differs from that config, as of ``--cfg-options``.
        params: its published parameters, digits and unit as printed: ``'27.65 M'``. A number
            without a unit is known to the last digit.
        macs: its published multiply-adds, ``'4.59 G'``; ``'Gi'`` are units of 2^30.
        convention: what the multiply-adds include, see :mod:`attn_mm.describe.counting`.
        shape: of the input that they are for.
        framework: the package that the config needs.
        minus: the config whose parameters are taken off, where the increase is published.
        constants: batch norms whose scales and shifts don't train are no parameters.
        note: why the counts differ, or by what reading they agree.
    """

    where: str
    network: str
    config: str
    options: dict[str, Any] = field(default_factory=dict)
    params: str | None = None
    macs: str | None = None
    convention: Literal["conv", "full"] = "conv"
    shape: tuple[int, ...] = (3, 224, 224)
    framework: str = "mmpretrain"
    minus: str | None = None
    constants: bool = False
    note: str = ""


def value_of(figure: str) -> tuple[float, float]:
    """A figure as printed: its value, and the size of its last digit.

    Raises:
        ValueError: ``figure`` is not digits followed by M, G, Gi or nothing.
    """
    match = _FIGURE.fullmatch(figure)
    if match is None:
        raise ValueError(f"expected digits and M, G, Gi or nothing, got {figure!r}")
    digits, decimals, unit = match.groups()
    scale = _UNITS[unit]
    return float(digits.replace(",", "")) * scale, scale / 10 ** len(decimals or "")


def agreement(count: int, figure: str) -> Agreement:
    """``'unit'``: the same number; ``'digits'``: it rounds to the figure; ``'differs'``: neither."""
    value, last_digit = value_of(figure)
    if last_digit == 1:
        return "unit" if count == value else "differs"
    # Figures lie on halves of the last digit only by chance: either rounding will do.
    return "digits" if abs(count - value) <= last_digit / 2 * (1 + 1e-9) else "differs"


def relative_error(count: int, figure: str) -> float:
    """``count`` against the figure, as a fraction of the figure."""
    value, _ = value_of(figure)
    return count / value - 1
