"""Collect the warnings that the checks of data write to a run's log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from mmengine.logging import MMLogger


@contextlib.contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """In this context, mmengine's current log is a list of the texts of warnings."""
    lines: list[str] = []
    logger = MMLogger.get_instance("new")
    before, logger.handlers = logger.handlers, [_Lines(lines)]
    try:
        yield lines
    finally:
        logger.handlers = before


class _Lines(logging.Handler):
    """Keeps the text of warnings."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
