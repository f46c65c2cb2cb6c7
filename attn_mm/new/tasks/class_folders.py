"""What classification and action share: a folder of files for each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from attn_mm.errors import UserError
from attn_mm.new.formats import folders
from attn_mm.new.plan import Wishes
from attn_mm.new.report import Report, counts_in_words
from attn_mm.new.schedule import check_number

T = TypeVar("T")

# Of more classes the best five are counted, too.
_FEW_CLASSES = 10


@dataclass(frozen=True)
class ClassFolders(Generic[T]):
    """A data set.

    Attributes:
        classes: their names, in order.
        lists: the lists of files that a config reads, by their names.
        numbers: of files in each split.
        looks: what is known of each file that can be read.
    """

    classes: list[str]
    lists: dict[str, str]
    numbers: dict[str, int]
    looks: dict[Path, T]


def look_through(
    wishes: Wishes,
    report: Report,
    suffixes: Sequence[str],
    noun: str,
    separator: str,
    look: Callable[[Sequence[Path]], dict[Path, T | None]],
) -> ClassFolders[T]:
    """Read and divide a data set, and report its splits, its classes, and what is wrong with it.

    Args:
        wishes: the command line.
        report: gets what is found.
        suffixes: of the files that count.
        noun: what they are, in the plural.
        separator: between path and label in the lists.
        look: what is to be known of files; None of one that can't be read.

    Raises:
        UserError: the data set can't be used.
    """
    found, classes = folders.read(wishes.data, suffixes, noun, report)
    looks = look([path for files in found.values() for paths in files.values() for path in paths])
    unread = {path for path, seen in looks.items() if seen is None}
    report.complain(f"{noun} that can't be read", sorted(path.name for path in unread), "left out")
    parts = folders.with_validation(folders.without(found, unread), wishes.seed, noun, report)
    folders.complain_of_absent(parts, classes, report)
    lists, numbers = folders.lists_of(parts, classes, wishes.data, separator)
    check_number(numbers["train"], wishes.data, noun)
    if not numbers["val"]:
        raise UserError(f"{wishes.data} has no {noun} to validate with")
    report.found += [f"{split}: {number:,} {noun}" for split, number in numbers.items()]
    counts = Counter({c: sum(len(part.get(c, [])) for part in parts.values()) for c in classes})
    report.found.append(f"classes: {counts_in_words(counts)}")
    known = {path: seen for path, seen in looks.items() if seen is not None}
    return ClassFolders(classes, lists, numbers, known)


def top_k(classes: int) -> int | tuple[int, int]:
    """How many of the best classes an evaluation counts: one, and five if there are many classes."""
    return 1 if classes <= _FEW_CLASSES else (1, 5)
