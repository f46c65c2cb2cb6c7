"""Flags for ``argparse``: their types, those of several commands, and the way from them to a dataclass."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

from mmengine.device import get_device

from attn_mm.utils.config import ConfigOptions

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def score(text: str) -> float:
    """A number in 0..1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text} does not lie in 0..1")
    return value


def positive(text: str) -> int:
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{text} is not positive")
    return number


def count(text: str) -> int:
    """A whole number from 0."""
    number = int(text)
    if number < 0:
        raise ArgumentTypeError(f"{text} is negative")
    return number


def add_device_flag(parser: ArgumentParser) -> None:
    """Add ``--device``, which defaults to the best device of this machine."""
    parser.add_argument("--device", default=get_device(), help="default: %(default)s, the best available")


def add_options_flag(parser: ArgumentParser, text: str = "change the config") -> None:
    """Add ``--cfg-options KEY=VALUE ...``, which ``text`` explains."""
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help=text)


def from_args(kind: type[T], args: Namespace) -> T:
    """Build a dataclass from a parsed command line.

    Commands pass such objects, or plain values, to their functions: a namespace stays in ``main``.

    Args:
        kind: the dataclass. A field takes the flag of its name; one without such a flag keeps its default.
        args: the parsed command line.
    """
    return kind(
        **{field.name: getattr(args, field.name) for field in fields(kind) if hasattr(args, field.name)}
    )
