"""Errors that are the user's to mend: one line on stderr and exit status 2, no traceback."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

from attn_mm.compat.checkpoints import CheckpointError

EXIT_STATUS = 2


class UserError(Exception):
    """A mistake in a command's input. The message is one line that names the thing and the way out."""


class ConfigError(UserError, ValueError):
    """A config asks of a model what it can't be."""


def reports_user_errors(main: Callable) -> Callable:
    """Decorate a command's ``main``: a user's mistake becomes ``error: ...`` on stderr and ``SystemExit(2)``.

    Reported so are :class:`UserError` and :class:`CheckpointError`; any other
    exception is a fault of the program and keeps its traceback.
    """

    @functools.wraps(main)
    def run(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except (UserError, CheckpointError) as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(EXIT_STATUS) from None

    return run
