"""Checks of the video lists of mmaction's ``VideoDataset``; a fault is reported in one line.

Each line of the text file is ``path label``, or ``path label label ...`` if a video has several classes.
mmaction reads an empty line as a video without a name, and a label beyond the classes crashes in the loss.
"""

from __future__ import annotations

from attn_mm.datasets.checks.text_lines import read_lines
from attn_mm.errors import UserError


def check_video_list(path: str, delimiter: str, several: bool, num_classes: int | None) -> None:
    """Check a video list.

    Args:
        path: the list.
        delimiter: the text between path and label.
        several: whether a video may have several labels.
        num_classes: labels must be below it; None if unknown.

    Raises:
        UserError: if the list can't be read, is empty, or has a line that isn't ``path label``.
    """
    lines = read_lines(path)
    if not lines:
        raise UserError(f"{path} lists no video")
    for number, line in enumerate(lines, 1):
        _, *labels = line.strip().split(delimiter)
        if not labels or not all(map(_is_integer, labels)) or (len(labels) > 1 and not several):
            raise UserError(
                f"{path}, line {number}: expected a path and a label, separated by the data set's delimiter "
                f"{delimiter!r}; got {line[:80]!r}"
            )
        for label in map(int, labels):
            if label < 0:
                raise UserError(f"{path}, line {number}: the label {label} is negative")
            if num_classes is not None and label >= num_classes:
                raise UserError(
                    f"{path}, line {number}: the label {label} is not in 0..{num_classes - 1}: correct it "
                    "or the config's model.cls_head.num_classes"
                )


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) < 19
