"""Write files atomically, and check output folders and checkpoint paths before a long run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import os.path as osp
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from attn_mm.errors import UserError

PART = ".part"
"""How the names of the temporary files of :func:`replacing` end."""


def check_regular(path: str | os.PathLike) -> None:
    """Raise UserError if ``path`` is a pipe or a device: reading one may wait or go on for ever."""
    # A missing file and a folder have errors of their own.
    if osp.exists(path) and not osp.isfile(path) and not osp.isdir(path):
        raise UserError(f"{path} is a pipe or a device, not a file")


def is_inside(name: str) -> bool:
    """Whether a relative file name can't leave the folder that it is put into."""
    return not osp.isabs(name) and osp.normpath(name).split(osp.sep)[0] != osp.pardir and "\0" not in name


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError inside this context into a UserError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} can't be written ({error.strerror or error})") from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Write a file completely or not at all, whatever happens to the process or the machine meanwhile.

    Opens a temporary file in the same folder. When the context ends without an error, its content is
    flushed to the disk, and the file takes the place of ``path``.
    """
    # A symbolic link stays one.
    target = Path(osp.realpath(path))
    if target.exists() and not target.is_file():
        # A device or a pipe can't be replaced.
        with target.open("wb") as file:
            yield file
        return
    part = target.with_name(f".{target.name}.{os.getpid()}{PART}")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        _flush_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    # Not every system lets a folder be opened or flushed.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_parts(folder: Path) -> None:
    """Remove the temporary files that killed processes left in ``folder``."""
    for part in folder.glob(f".*{PART}"):
        with contextlib.suppress(OSError):
            part.unlink()


def make_folder(out: str | Path) -> Path:
    """Make the output folder before the work starts; UserError if that fails."""
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    # A name with a null character is a ValueError.
    except (OSError, ValueError) as error:
        raise UserError(f"the folder {out} can't be made ({getattr(error, 'strerror', error)})") from error
    return out


def write_atomically(path: Path, text: str) -> None:
    """Write a text file as UTF-8, completely or not at all; UserError if that fails."""
    with writing(path), replacing(path) as file:
        file.write(text.encode(errors="surrogateescape"))


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
    import torch

    try:
        with replacing(path) as file:
            torch.save(checkpoint, file)
    # torch reports a full disk as a RuntimeError.
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} can't be written ({error})") from error


_SCHEMES = {
    "http": None,
    "https": None,
    "torchvision": None,
    "modelzoo": None,
    "open-mmlab": None,
    "openmmlab": None,
    "mmcls": None,
    "jhu": None,
    "s3": "petrel_client",
    "petrel": "petrel_client",
    "pavi": "pavi",
}
"""What mmengine loads checkpoints from, and the package that it needs for that."""


def check_checkpoint(path: str) -> None:
    """Raise UserError if ``path`` is a local file that doesn't exist, or a place that isn't known."""
    if not isinstance(path, str):
        raise UserError(f"a checkpoint is named by its path, not by {path!r}")
    scheme, separator, name = path.partition("://")
    if not separator:
        if osp.isdir(path):
            raise UserError(f"checkpoint {path} is a folder: name a file in it")
        # A named pipe would be waited for.
        if not osp.isfile(path):
            raise UserError(f"checkpoint {path} does not exist")
        return
    # Petrel's buckets are "cluster:s3".
    kind = scheme.rpartition(":")[2]
    if kind not in _SCHEMES:
        raise UserError(f"checkpoint {path}: {kind}:// is unknown; use a path or {', '.join(_SCHEMES)}")
    package = _SCHEMES[kind]
    if package and not importlib.util.find_spec(package):
        raise UserError(
            f"checkpoint {path} needs the package {package}, which is not installed: use a local copy"
        )
    if kind in ("torchvision", "modelzoo", "open-mmlab", "openmmlab", "mmcls", "jhu"):
        _check_model_name(path, kind, name)


def _check_model_name(path: str, kind: str, name: str) -> None:
    # mmengine takes as long to import as torch.
    from mmengine.runner import checkpoint as known

    if kind in ("torchvision", "modelzoo"):
        names = known.get_torchvision_models()
    elif kind == "mmcls":
        names = known.get_mmcls_models()
    else:
        names = {**known.get_external_models(), **known.get_deprecated_model_names()}
    # An architecture with its set of weights, such as resnet50.imagenet1k_v1, is torchvision's.
    if name.removeprefix("resnet50_v1c") not in names and name.partition(".")[0] not in names:
        raise UserError(f"checkpoint {path}: {kind} has no model {name!r}; use a path or a URL")


def natural(path: str | os.PathLike) -> list[tuple[int, int, str]]:
    """Sort key that puts ``img2`` before ``img10``, in names of folders, too."""
    parts = re.split(r"([0-9]+)", os.fspath(path))
    return [(1, int(part), part) if place % 2 else (0, 0, part) for place, part in enumerate(parts)]
