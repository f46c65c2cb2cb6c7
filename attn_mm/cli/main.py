"""``attn-mm``: run one of the commands of :mod:`attn_mm.cli.commands`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from itertools import groupby

from attn_mm.cli.commands import COMMANDS
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.utils.parser import closest
from attn_mm.utils.threads import sleep_while_waiting

_USAGE = """\
usage: attn-mm COMMAND ...

Attention for mmdet, mmpose, mmaction2, mmpretrain and mmsegmentation networks.

  attn-mm train configs/fcos_tdaf_r50.py --demo     try it: no data, no download
"""

_OPTIONS = ("--help", "--version")


def overview() -> str:
    """The text of ``attn-mm --help``: every command, by group."""
    return "\n".join([_USAGE, *_groups(), "attn-mm COMMAND --help explains a command."])


def _groups() -> Iterator[str]:
    for group, commands in groupby(COMMANDS.values(), lambda command: command.group):
        lines = (f"  {command.name:<18}{command.help}" for command in commands)
        yield "\n".join([f"{group}:", *lines, ""])


@reports_user_errors
def main(argv: list[str] | None = None) -> None:
    """Run ``attn-mm`` with the arguments ``argv``, by default those of the process."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(overview())
    elif name == "--version":
        print(f"attn-mm {version('attn-mm')}")
    elif name in COMMANDS:
        # What the parsers of commands and their usage lines are named after.
        sys.argv = [f"attn-mm {name}", *rest]
        sleep_while_waiting()
        import_module(COMMANDS[name].module).main(rest)
    else:
        word = name.lstrip("-")
        meant = closest(name, COMMANDS) or (closest(f"--{word}", _OPTIONS) if word else None)
        hint = f"did you mean attn-mm {meant}?" if meant else "attn-mm --help lists the commands"
        raise UserError(f"there is no command {name!r}; {hint}")
