"""Ctrl-C while a command of attn_mm is still being imported ends it in one line, as it does later.

:func:`attn_mm.errors.reports_user_errors` handles Ctrl-C from the start of a command's ``main`` on; importing
torch and the frameworks takes longer than that of many a command.
"""

from __future__ import annotations

import os
import os.path as osp
import sys
from contextlib import suppress
from types import TracebackType

_TOOLS = osp.realpath(osp.join(osp.dirname(__file__), ".mim", "tools"))


def report_early_interrupts() -> None:
    """If this process is a command of attn_mm, let Ctrl-C end it with one line and status 130."""
    if _is_command():
        sys.excepthook = _say_interrupted


def _is_command() -> bool:
    """Whether this process runs one of our commands, and not a program that uses attn_mm."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":
        return "attn_mm" in sys.orig_argv
    if osp.basename(program).startswith("attn-mm"):
        return True
    # Without a current folder nothing has a path.
    with suppress(FileNotFoundError):
        return osp.dirname(osp.realpath(program)) == _TOOLS
    return False


def _say_interrupted(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    if sys.stderr is not None:
        sys.stderr.write("interrupted\n")
        sys.stderr.flush()
    # Python would end itself by the signal, which a shell reports as 130, too, and Python's own as -2.
    os._exit(130)
