"""Ctrl-C while a command of attn_mm is still being imported ends it in one line, as it does later.

:func:`attn_mm.errors.reports_user_errors` handles Ctrl-C from the start of a command's ``main`` on; importing
torch and the frameworks takes longer than that of many a command.
"""

from __future__ import annotations

import os
import os.path as osp
import signal
import sys
import threading
from contextlib import suppress

_TOOLS = osp.realpath(osp.join(osp.dirname(__file__), ".mim", "tools"))


def report_early_interrupts() -> None:
    """If this process is a command of attn_mm, let Ctrl-C end it with one line and status 130."""
    ignored = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    if _is_command() and not ignored and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end)


def raise_interrupts() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again: the command has begun, and reports it."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_) -> None:
    if sys.stderr is not None:
        sys.stderr.write("interrupted\n")
        sys.stderr.flush()
    os._exit(130)


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
