"""NumPy files with objects in them are read without running code.

mmpose 1.3.2 reads the annotations of H3WB, and mmdet 3.3.0 the class hierarchy of Open
Images, with ``np.load(..., allow_pickle=True)``, which runs any code in the file
(mmpose/datasets/datasets/wholebody3d/h3wb_dataset.py:106, mmdet/datasets/openimages.py:483).

The patch gives these two modules a ``np`` whose ``load`` reads objects with
:mod:`attn_mm.compat.file_handlers`.
"""

from __future__ import annotations

import math
import zipfile
from types import ModuleType
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from attn_mm.compat.file_handlers import load_pickle
from attn_mm.compat.lazy import after_import
from attn_mm.errors import UnreadableFile, UnsafeFile, UserError

# How far coordinates can be compressed, and zeros much further.
_RATIO = 20
_FREE = 64 << 20


def load(path: Any, *_: Any, **__: Any) -> Any:
    """Load a ``.npy`` or ``.npz`` file, or a plain pickle, in place of ``np.load``.

    Raises:
        UnsafeFile: if it asks for code, or for more memory than it needs.
        UnreadableFile: if it is damaged.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(6)
            file.seek(0)
            if head[:4] == b"PK\x03\x04":
                return _archive(file)
            return _array(file) if head == npy.MAGIC_PREFIX else load_pickle(file)
    except UserError:
        raise
    # A damaged file makes NumPy raise any exception.
    except Exception as error:
        raise UnreadableFile.after(error, str(path), "a NumPy file") from error


def _archive(file: IO[bytes]) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        packed, unpacked = (
            sum(getattr(info, size) for info in archive.infolist()) for size in ("compress_size", "file_size")
        )
        if unpacked > _FREE + _RATIO * packed:
            raise UnsafeFile(f"refused {file.name}: its archive grows from {packed:,} to {unpacked:,} bytes")
        arrays = {}
        for name in archive.namelist():
            with archive.open(name) as member:
                arrays[name.removesuffix(".npy")] = _array(member)
    return arrays


def _array(file: IO[bytes]) -> np.ndarray:
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, in_columns, dtype = read_header(file)
    if not dtype.hasobject:
        file.seek(0)
        return npy.read_array(file, allow_pickle=False)
    array = load_pickle(file)
    if not isinstance(array, np.ndarray) or array.size != math.prod(shape):
        raise ValueError("its objects are not of the shape in its header")
    return array.reshape(shape, order="F" if in_columns else "C")


class _NumPy(ModuleType):
    """NumPy, except for its ``load``."""

    load = staticmethod(load)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _replace_numpy(module: ModuleType) -> None:
    module.np = _NumPy("numpy")  # type: ignore[attr-defined]


def patch() -> None:
    after_import("mmdet.datasets.openimages", _replace_numpy)
    after_import("mmpose.datasets.datasets.wholebody3d.h3wb_dataset", _replace_numpy)
