"""Flags for ``argparse``: value types, flags that commands share, and conversion to a dataclass."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

from attn_mm.utils.config import ConfigOptions

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def score(text: str) -> float:
    """Parse a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text} must be from 0 to 1")
    return value


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{text} is not positive")
    return number


def count(text: str) -> int:
    """Parse a whole number of at least 0."""
    number = int(text)
    if number < 0:
        raise ArgumentTypeError(f"{text} is negative")
    return number


def above_zero(text: str) -> float:
    """Parse a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text} must be a finite number above 0")
    return value


def add_device_flag(parser: ArgumentParser) -> None:
    """Add ``--device``, which defaults to the best device of this machine."""
    # It imports torch, before which a training sets how its threads wait.
    from mmengine.device import get_device

    parser.add_argument(
        "--device", default=get_device(), help="device to run on (default: %(default)s, the best available)"
    )


def add_options_flag(parser: ArgumentParser, text: str = "override config values") -> None:
    """Add ``--cfg-options KEY=VALUE ...`` with the help ``text``."""
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help=text)


def from_args(kind: type[T], args: Namespace) -> T:
    """Build a dataclass from a parsed command line.

    Commands pass such objects or plain values to their functions; the namespace stays in ``main``.

    Args:
        kind: the dataclass. A field takes the value of the flag of its name, or keeps its default.
        args: the parsed command line.
    """
    return kind(
        **{field.name: getattr(args, field.name) for field in fields(kind) if hasattr(args, field.name)}
    )
