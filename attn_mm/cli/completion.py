"""``attn-mm completion``: a script with which a shell completes commands, options and file names."""

from __future__ import annotations

import argparse
from importlib import import_module

from attn_mm.cli.commands import COMMANDS
from attn_mm.errors import reports_user_errors
from attn_mm.utils.extras import require
from attn_mm.utils.parser import CommandParser, arguments

_DESCRIPTION = """\
Print a script with which your shell completes commands, options, their choices and file names.

  %(prog)s bash > ~/.local/share/bash-completion/completions/attn-mm
  %(prog)s zsh > ~/.zfunc/_attn-mm           with fpath+=~/.zfunc before compinit in ~/.zshrc
  %(prog)s fish > ~/.config/fish/completions/attn-mm.fish
  %(prog)s tcsh > ~/.attn-mm.tcsh            with source ~/.attn-mm.tcsh in ~/.tcshrc

Then open a new shell. Print the script again after an update of attn_mm.
"""


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION)
    parser.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"), help="shell that runs the script")
    return parser


def whole_parser(files: dict[str, str]) -> argparse.ArgumentParser:
    """One parser with every command as a subcommand.

    Args:
        files: how each shell completes file names, which it gets where an argument has a free value.
    """
    parser = argparse.ArgumentParser("attn-mm", description="Attention for OpenMMLab networks.")
    commands = parser.add_subparsers()
    for command in COMMANDS.values():
        inner = import_module(command.module).make_parser()
        commands.add_parser(command.name, parents=[inner], add_help=False, help=command.help)
    for argument in arguments(parser):
        if argument.choices is None and argument.nargs != 0:
            # What shtab reads. Where a number is meant, file names do no harm.
            vars(argument)["complete"] = files
    return parser


@reports_user_errors
def main(argv=None) -> None:
    args = make_parser().parse_args(argv)
    shtab = require("shtab", "completion")
    print(shtab.complete(whole_parser(shtab.FILE), args.shell))
