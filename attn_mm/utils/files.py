"""Write files atomically, and check output folders and checkpoint paths before a long run."""

from __future__ import annotations

import contextlib
import os
import os.path as osp
from collections.abc import Iterator
from pathlib import Path

import torch

from attn_mm.errors import UserError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError inside this context into a UserError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} can't be written ({error.strerror})") from error


def make_folder(out: str | Path) -> Path:
    """Make the output folder before the work starts; UserError if that fails."""
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {out} can't be made ({error.strerror})") from error
    return out


def write_atomically(path: Path, text: str) -> None:
    """Write a file completely or not at all; UserError if that fails."""
    temporary = path.with_name(f"{path.name}.tmp")
    with writing(path):
        temporary.write_text(text)
        os.replace(temporary, path)


def check_target(target: Path, source: str, force: bool) -> None:
    """Raise UserError if ``target`` must not be written."""
    if target.is_dir():
        raise UserError(f"{target} is a folder; name a file")
    if target.exists():
        if os.path.exists(source) and target.samefile(source):
            raise UserError(f"{target} is the checkpoint to convert; name another file")
        if not force:
            raise UserError(f"{target} exists; --force replaces it")


def write_checkpoint(checkpoint: dict, path: Path) -> None:
    """Write a checkpoint completely or not at all; UserError if that fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("xb") as file:
            torch.save(checkpoint, file)
        part.replace(path)
    # torch reports a full disk as a RuntimeError.
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} can't be written ({error})") from error
    finally:
        part.unlink(missing_ok=True)


def check_checkpoint(path: str) -> None:
    """Raise UserError if ``path`` is a local file that doesn't exist."""
    if "://" not in path and not osp.isfile(path):
        raise UserError(f"checkpoint {path} does not exist")
