"""Checks of AVA's lists of actions; a fault is reported in one line.

A line is ``video, second, left, top, right, bottom, action, person``. mmaction's ``AVADataset`` takes any
numbers: action -1 becomes the last one, and boxes in pixels lie outside of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

from attn_mm.datasets.checks.text_lines import read_lines
from attn_mm.errors import UserError


def check_ava_list(path: str, num_classes: int, custom_classes: Sequence[int] | None = None) -> None:
    """Check a list of AVA.

    Args:
        path: the list.
        num_classes: of the data set; one more than there are actions.
        custom_classes: the actions that the data set uses; None for all.

    Raises:
        UserError: if the list can't be read, is empty, or has a line that AVADataset would misread.
    """
    lines = read_lines(path)
    if not lines:
        raise UserError(f"{path} lists no action")
    for number, line in enumerate(lines, 1):
        try:
            _, second, *box, action, person = line.strip().split(",")
            label = int(action)
            left, top, right, bottom = map(float, box)
            int(second), int(person)
        except ValueError as error:
            raise UserError(
                f"{path}, line {number}: expected video, second, left, top, right, bottom, action, person; "
                f"got {line[:80]!r}"
            ) from error
        if custom_classes is None and not 0 < label < num_classes:
            raise UserError(
                f"{path}, line {number}: the action {label} is not in 1..{num_classes - 1}: correct "
                "it or the data set's num_classes, which is one more than there are actions"
            )
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise UserError(
                f"{path}, line {number}: the box {', '.join(box)} is no left, top, right and bottom, each in "
                "0..1 as a share of the picture"
            )
