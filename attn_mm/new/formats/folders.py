"""A folder of files for each class, inside a folder for each split or without such folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attn_mm.errors import UserError
from attn_mm.new.report import Report
from attn_mm.new.splits import hold_out, split_called, split_named
from attn_mm.utils.files import natural

Files = dict[str, list[Path]]
"""The files of each class."""


def read(
    root: Path, suffixes: Sequence[str], noun: str, report: Report
) -> tuple[dict[str, Files], list[str]]:
    """Find the files of each class.

    Args:
        root: folder of the data set.
        suffixes: of the files that count.
        noun: what they are, in the plural.
        report: gets what is wrong.

    Returns:
        The files by split, all of them as ``"train"`` if no folder is named like a split, and the classes.

    Raises:
        UserError: there are fewer than two classes with a file, or none to train on.
    """
    if not root.is_dir():
        raise UserError(f"--data {root} is not a folder")
    splits = _splits(root, suffixes, noun, report)
    found: dict[str, Files] = {}
    others, broken, copies = [], [], []
    for split, folder in (splits or {"train": root}).items():
        found[split] = {}
        for path in _folders(folder):
            every = [file for file in sorted(path.rglob("*"), key=natural) if file.is_file()]
            # Such as the copies in Jupyter's .ipynb_checkpoints.
            hidden = [file for file in every if _is_hidden(file.relative_to(path))]
            copies += [file.name for file in hidden if file.suffix.lower() in suffixes]
            every = [file for file in every if file not in hidden]
            fitting = [file for file in every if file.suffix.lower() in suffixes]
            if fitting and not _can_be_listed(Path(path.name)):
                raise UserError(
                    f"{path}: rename this class: its name has a line break, a tab or broken letters"
                )
            found[split][path.name] = [file for file in fitting if _can_be_listed(file.relative_to(root))]
            broken += [file.name for file in fitting if not _can_be_listed(file.relative_to(root))]
            others += [file.name for file in every if file.suffix.lower() not in suffixes]
    report.complain(f"files that are no {noun}", others, "left out")
    report.complain(f"hidden {noun}", copies, "left out")
    report.complain("paths with a line break, a tab or broken letters", broken, "left out")
    classes = sorted({name for files in found.values() for name in files})
    empty = [name for name in classes if not any(files.get(name) for files in found.values())]
    report.complain(f"folders without {noun}", empty, "no classes")
    classes = [name for name in classes if name not in empty]
    if len(classes) < 2:
        raise UserError(
            f"{root} needs a folder of {noun} ({' '.join(suffixes)}) for each of two or more classes; it has "
            f"{', '.join(classes) or 'none'}"
        )
    return found, classes


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _splits(root: Path, suffixes: Sequence[str], noun: str, report: Report) -> dict[str, Path]:
    """The folders of the splits; none if the folders are classes."""

    def has_folders(folder: Path) -> bool:
        return any(_has(path, suffixes) for path in _folders(folder))

    by_split: dict[str, list[Path]] = {}
    others = []
    for path in _folders(root):
        if split := split_called(path.name):
            by_split.setdefault(split, []).append(path)
        elif split_named(path.name) and has_folders(path):
            raise UserError(f"{path} looks like a split of several: name the splits train, val and test")
        else:
            others.append(path)
    for split, paths in by_split.items():
        if len(paths) > 1:
            names = ", ".join(f"{path.name}/" for path in paths)
            raise UserError(f"{root} has several folders for {split}, {names}: leave one")
    splits = {split: path for split, (path,) in by_split.items()}
    flat = [path for path in splits.values() if _has(path, suffixes) and not has_folders(path)]
    if len(flat) == len(splits) == 1 and any(_has(path, suffixes) for path in others):
        return {}
    if flat:
        raise UserError(
            f"{flat[0]} has {noun}, but no folders of classes: a split has a folder for each class"
        )
    if splits and "train" not in splits:
        raise UserError(f"{root} has folders for {', '.join(splits)}, but none for train")
    if splits:
        report.complain("folders that are no split", [path.name for path in others], "ignored")
    return splits


def _has(folder: Path, suffixes: Sequence[str]) -> bool:
    """Whether a folder has a fitting file at any depth."""
    return any(path.suffix.lower() in suffixes for path in folder.rglob("*"))


def without(found: Mapping[str, Files], unread: set[Path]) -> dict[str, Files]:
    """The files without those that can't be read."""
    return {
        split: {name: [path for path in paths if path not in unread] for name, paths in files.items()}
        for split, files in found.items()
    }


def with_validation(found: Mapping[str, Files], seed: int, noun: str, report: Report) -> dict[str, Files]:
    """The splits of a set; if it has no validation, files of each class are held out for it."""
    if "val" in found:
        return {**found}
    train: Files = {}
    val: Files = {}
    for name, paths in found["train"].items():
        train[name], val[name] = hold_out(paths, seed)
    held, number = _number(val), _number(found["train"])
    report.found.append(f"no validation set: {held:,} of {number:,} {noun} are held out (seed {seed})")
    return {"train": train, "val": val, **{name: files for name, files in found.items() if name != "train"}}


def complain_of_absent(parts: Mapping[str, Files], classes: Sequence[str], report: Report) -> None:
    """Report the classes that a split lacks."""
    for name in classes:
        absent = [split for split, files in parts.items() if not files.get(name)]
        if absent:
            meaning = "nothing can learn it" if "train" in absent else "it is not evaluated there"
            report.remark(f"class {name} has no file in {' and '.join(absent)}: {meaning}")


def lists_of(
    parts: Mapping[str, Files], classes: Sequence[str], root: Path, separator: str
) -> tuple[dict[str, str], dict[str, int]]:
    """The lists that a config reads, ``path label`` per line, and the number of files of each split."""
    texts, numbers = {}, {}
    for split, files in parts.items():
        lines = [
            f"{_listed(path.relative_to(root))}{separator}{label}\n"
            for label, name in enumerate(classes)
            for path in files.get(name, [])
        ]
        texts[f"{split}.txt"], numbers[split] = "".join(lines), len(lines)
    return texts, numbers


def _can_be_listed(path: Path) -> bool:
    """Whether a path fits into a line of a text file."""
    text = str(path)
    one_line = "".join(text.splitlines()) == text and "\t" not in text
    return one_line and text.encode(errors="ignore").decode() == text


def _listed(path: Path) -> str:
    """A path at the beginning of a line, which the frameworks strip of its blanks."""
    text = path.as_posix()
    return text if text == text.lstrip() else f"./{text}"


def _number(files: Files) -> int:
    return sum(map(len, files.values()))


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
