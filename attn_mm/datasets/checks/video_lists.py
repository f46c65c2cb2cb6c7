"""What is wrong with a list of videos of mmaction's ``VideoDataset``, in one line.

Each line of the text file is ``path label``, or ``path label label ...`` where a video is of several classes.
mmaction takes an empty line for a video without a name, and notices a label beyond the classes in the loss.
"""

from __future__ import annotations

from pathlib import Path

from attn_mm.errors import UserError


def check_video_list(path: str, delimiter: str, several: bool, num_classes: int | None) -> None:
    """UserError where a list can't be read, is empty, or has a line that isn't ``path label``.

    Args:
        path: the list.
        delimiter: what stands between path and label.
        several: whether a video may have several labels.
        num_classes: the labels are below it; None where that isn't known.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text file") from error
    if not lines:
        raise UserError(f"{path} lists no video")
    for number, line in enumerate(lines, 1):
        _, *labels = line.strip().split(delimiter)
        if not labels or not all(map(_is_integer, labels)) or (len(labels) > 1 and not several):
            raise UserError(
                f"{path}, line {number}: expected a path and a label with {delimiter!r} between them, the "
                f"data set's delimiter; got {line!r}"
            )
        for label in map(int, labels):
            if label < 0:
                raise UserError(f"{path}, line {number}: the label {label} is negative")
            if num_classes is not None and label >= num_classes:
                raise UserError(
                    f"{path}, line {number}: the label {label} does not lie in 0..{num_classes - 1}; the "
                    "config's model.cls_head.num_classes says how many classes there are"
                )


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
