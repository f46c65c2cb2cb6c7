"""Which of the messages of mmengine and of the frameworks reach the screen; all of them are in the log file.

What is logged as a warning or an error is shown, except :data:`UNHELPFUL`; what is logged as information is
not, except :data:`HELPFUL`. What is printed is shown, except :data:`PRINTED`, which goes to the log file.
"""

from __future__ import annotations

import io
import logging
import re
from typing import Any

from mmengine.dist import get_rank
from mmengine.logging import MMLogger
from mmengine.logging.logger import FilterDuplicateWarning
from rich.console import Console


def _beginnings(*texts: str) -> re.Pattern:
    return re.compile("|".join(texts))


HELPFUL = _beginnings(
    r"\w+: \d+ of \d+ keys loaded",
    r"Load checkpoint from ",
    r"Auto resumed from ",
    r"resumed epoch: ",
    r"Loading the \d+ batches before the checkpoint's again",
    r"LR is set based on batch size of ",
    r"The best checkpoint with ",
    r"the monitored metric did not improve ",
    r"Switch pipeline now!",
    r"No mosaic and mixup aug now!",
    r"Model has been \"compiled\"",
)
"""Information that says what a run does with the user's checkpoint, data or settings."""

UNHELPFUL = _beginnings(
    # Upstream's own use of its deprecated names.
    r"\"FileClient\" will be deprecated",
    r"\"HardDiskBackend\" is the alias",
    r"\"file_client_args\" will be deprecated",
    r"Failed to search registry with scope ",
    r"The prefix is not set in metric class ",
    r"init_weights of \w+ has been called more than once",
    r".* is not a meta file, simply parsed as meta information",
    # A demo asks for it: some heads share their convolutions between levels.
    r".* is duplicate. It is skipped since bypass_duplicate=True",
)
"""Warnings about which a user can do nothing."""

PRINTED = _beginnings(
    r"loading annotations into memory\.\.\.$",
    r"Done \(t=[\d.]+s\)$",
    r"creating index\.\.\.$",
    r"index created!$",
    r"Loading and preparing results\.\.\.$",
    r"Converting ndarray to lists\.\.\.$",
    r"\([\d]+, 7\)$",
    r"\d+/\d+$",
    r"DONE \(t=[\d.]+s\)\.?$",
    r"Running per image evaluation\.\.\.$",
    r"Evaluate annotation type \*",
    r"Accumulating evaluation results\.\.\.$",
    r" Average (Precision|Recall) +\(A[PR]\) @\[",
    r"Loads checkpoint by \w+ backend from path: ",
)
"""What pycocotools prints while it reads annotations and compares boxes, and mmengine beside its own log."""


class ToScreen(logging.Handler):
    """Shows the messages that are worth it, without the time and the logger's name."""

    def __init__(self, console: Console) -> None:
        # As mmengine's own: of several processes the first one speaks, the others say what is wrong.
        super().__init__(logging.INFO if get_rank() == 0 else logging.ERROR)
        self._console = console
        self.addFilter(_is_shown)
        self.addFilter(FilterDuplicateWarning())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            kind = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
            self._console.out(kind + record.getMessage().strip(), highlight=False)
        except Exception:
            self.handleError(record)


def _is_shown(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    if record.levelno >= logging.WARNING:
        return not UNHELPFUL.match(message)
    return bool(HELPFUL.match(message))


def show_on(logger: MMLogger, console: Console) -> None:
    """Let a logger show on ``console`` what is worth it, instead of everything on stdout."""
    for handler in list(logger.handlers):
        # Those that write files are of subclasses.
        if type(handler) in (logging.StreamHandler, ToScreen):
            logger.removeHandler(handler)
    logger.addHandler(ToScreen(console))


class Printed(io.TextIOBase):
    """Takes stdout's place: a line of :data:`PRINTED` goes to the log, the others to a console.

    Args:
        console: it writes to the stdout whose place is taken.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._unfinished = ""
        # Whether the last line on the console lacks its end.
        self._open = False

    def write(self, text: str) -> int:
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self._show(line)
        return len(text)

    def flush(self) -> None:
        # A bar that draws itself again and again is shown once it is finished.
        if self._unfinished and "\r" not in self._unfinished:
            self._show(self._unfinished, end="")
            self._unfinished = ""

    def finish(self) -> None:
        """End the last line, so that what follows begins another."""
        self.flush()
        if self._unfinished or self._open:
            self.write("\n")

    def _show(self, line: str, end: str = "\n") -> None:
        line = line.rpartition("\r")[2]
        if PRINTED.match(line):
            MMLogger.get_current_instance().info(line)
        else:
            self._console.out(line, highlight=False, end=end)
            self._open = not end

    def writable(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        # Such as ``buffer``, to which some programs write bytes.
        return getattr(self._console.file, name)

    def isatty(self) -> bool:
        return self._console.file.isatty()

    def fileno(self) -> int:
        return self._console.file.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._console.encoding
