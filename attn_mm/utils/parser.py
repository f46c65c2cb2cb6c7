"""The parser of every command: its name in the usage line, and a hint for a misspelt option."""

from __future__ import annotations

import os.path as osp
import sys
from argparse import Action, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

_DASHES = "-\N{EN DASH}\N{EM DASH}"
"""What an option copied from a text may begin with."""


class CommandParser(ArgumentParser):
    """A parser that keeps the line breaks of its texts and proposes the option that a user may have meant.

    Args:
        description: what the command does, and examples; ``%(prog)s`` stands for the command's name.
        epilog: what follows the options.
        kwargs: as of :class:`argparse.ArgumentParser`.
    """

    def __init__(self, description: str, epilog: str | None = None, **kwargs: Any) -> None:
        # Python 3.14 would name the module behind the command.
        kwargs.setdefault("prog", osp.basename(sys.argv[0]))
        kwargs.setdefault("formatter_class", RawDescriptionHelpFormatter)
        super().__init__(description=description, epilog=epilog, **kwargs)

    def parse_args(self, args=None, namespace=None):
        """Parse the command line; an unknown option ends the command with a hint, and with status 2."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._hint(unknown)}")
        return parsed

    def _hint(self, unknown: list[str]) -> str:
        options = {option.lstrip(_DASHES): option for option in _options(self)}
        for word in unknown:
            name = word.partition("=")[0]
            meant = closest(name.lstrip(_DASHES), options) if name.startswith(tuple(_DASHES)) else None
            if meant:
                return f"; did you mean {options[meant]}?"
        return ""


def _options(parser: ArgumentParser) -> Iterator[str]:
    for action in arguments(parser):
        yield from action.option_strings


def arguments(parser: ArgumentParser) -> Iterator[Action]:
    """Every argument of a parser, and those of its subcommands."""
    for action in parser._actions:
        yield action
        for inner in action.choices.values() if isinstance(action.choices, dict) else ():
            # The choices of an option may be a dict, too.
            if isinstance(inner, ArgumentParser):
                yield from arguments(inner)


def closest(word: str, names: Iterable[str]) -> str | None:
    """The name that ``word`` begins or resembles; None if there is none.

    Args:
        word: what the user wrote.
        names: what exists.
    """
    names = list(names)
    plain = word.lower().replace("_", "-")
    begun = [name for name in names if plain and name.startswith(plain)]
    return next(iter(begun or get_close_matches(plain, names, 1)), None)
