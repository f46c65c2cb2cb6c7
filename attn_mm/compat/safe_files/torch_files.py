"""Read the three formats of ``torch.save`` without taking more than the file has.

``torch.load`` believes a file: a storage is as long as the pickle says, whatever the archive
holds, a tensor of the oldest format makes its storage as large as it likes, and archives may
be compressed a thousand times. Here each size is held against the file first.

- zip, since torch 1.6: ``data.pkl``, and each storage as a member.
- legacy, torch 0.2 to 1.5: five pickles, then the storages one after the other.
- tar, torch 0.1: storages, tensors and a pickle as members.
"""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from collections.abc import Callable
from typing import IO, Any

import torch
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION, _get_restore_location
from torch.storage import TypedStorage

from attn_mm.compat.safe_files.arguments import StorageKind, expect
from attn_mm.compat.safe_files.budget import Budget, Refused, check_tree
from attn_mm.compat.safe_files.tensors import REBUILD_TENSOR
from attn_mm.compat.safe_files.unpickler import Unpickler

MapLocation = str | torch.device | dict | Callable | None


class ProgramFile(Refused):
    """The file is a TorchScript program, not a checkpoint."""


def read(file: IO[bytes], map_location: MapLocation) -> Any:
    """Read what ``torch.save`` wrote into an open file.

    Args:
        file: a binary file that can seek; it is read from its current position.
        map_location: as in :func:`torch.load`.

    Raises:
        Refused: if it asks for code, or for more memory than it needs.
        Exception: of any kind, if the file is damaged.
    """
    if not hasattr(file, "readinto"):
        file = io.BytesIO(file.read())
    value = _read(file, map_location, _budget(file))
    check_tree(value)
    return value


def load(file: IO[bytes], encoding: str = "ASCII") -> Any:
    """Read a plain pickle, which may have tensors in it.

    Args:
        file: as in :func:`read`.
        encoding: of the text that Python 2 wrote, as in :func:`pickle.load`.

    Raises:
        Refused: if it asks for code, or for more memory than it needs.
        Exception: of any kind, if the file is damaged.
    """
    value = _Plain(file, _budget(file), encoding).load()
    check_tree(value)
    return value


def _budget(file: IO[bytes]) -> Budget:
    start = file.tell()
    size = file.seek(0, io.SEEK_END) - start
    file.seek(start)
    return Budget(size)


def _read(file: IO[bytes], map_location: MapLocation, budget: Budget) -> Any:
    start = file.tell()
    head = file.read(4)
    file.seek(start)
    place = _get_restore_location(map_location)
    if head == b"PK\x03\x04":
        return _read_zip(file, place, budget)
    members = _tar_members(file)
    file.seek(start)
    return _read_tar(file, members, place, budget) if members else _read_legacy(file, place, budget)


class _Plain(Unpickler):
    def torch_file(self, data: bytes) -> Any:
        # Without a further level: a file in a file in a file is none that torch.save wrote.
        return _read(io.BytesIO(data), "cpu", self.budget)


class _Tensors(Unpickler):
    """Reads the pickle of a checkpoint; ``storage_of`` finds a storage by its persistent id."""

    storage_of: Callable[[Any], Any]

    def storage(self, name: Any) -> Any:
        return self.storage_of(name)


def _storage_id(name: Any, parts: int) -> tuple[str, torch.dtype, str, str, int, Any]:
    """Check a persistent id, and split it into kind, dtype, key, location, number of elements, and view."""
    expect(type(name) is tuple and len(name) in (5, parts), "storage")
    kind, storage, key, location, count = name[:5]
    kind, location = (x.decode("ascii") if type(x) is bytes else x for x in (kind, location))
    expect(kind == "storage" and type(storage) is StorageKind, "storage")
    expect(type(key) in (str, bytes, int) and type(location) is str and type(count) is int, "storage")
    expect(0 <= count < 1 << 48 and not location.startswith("meta"), "storage")
    return kind, storage.dtype, key, location, count, name[5] if len(name) == 6 else None


def _filled(file: IO[bytes], nbytes: int, budget: Budget) -> torch.UntypedStorage:
    """A new storage with the next ``nbytes`` of the file."""
    expect(nbytes >= 0, "storage's size")
    budget.take_storage(nbytes)
    data = torch.empty(nbytes, dtype=torch.uint8)
    _fill(file, data)
    return data.untyped_storage()


def _fill(file: IO[bytes], data: torch.Tensor) -> None:
    array: Any = data.numpy()
    target = memoryview(array)
    while target:
        count = file.readinto(target)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("the file ends within its weights")
        target = target[count:]


def _typed(storage: torch.UntypedStorage, dtype: torch.dtype) -> TypedStorage:
    return TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


# --- zip


def _read_zip(file: IO[bytes], place: Callable, budget: Budget) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("the archive has no data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in members:
            raise ProgramFile("it is a TorchScript program, not a checkpoint")

        def content(name: str) -> bytes:
            _go_to(file, members[folder + name], budget)
            return file.read(members[folder + name].file_size)

        order = content("byteorder") if f"{folder}byteorder" in members else b"little"
        expect(order in (b"little", b"big"), "byte order")
        storages: dict[Any, TypedStorage] = {}

        def storage_of(name: Any) -> TypedStorage:
            _, dtype, key, location, count, _ = _storage_id(name, 5)
            if key not in storages:
                info = members[f"{folder}data/{key}"]
                expect(info.file_size == count * dtype.itemsize, "storage's size")
                _go_to(file, info, budget)
                storage = _filled(file, info.file_size, budget)
                if order.decode() != sys.byteorder:
                    storage.byteswap(dtype)
                storages[key] = _typed(place(storage, location), dtype)
            return storages[key]

        unpickler = _Tensors(io.BytesIO(content("data.pkl")), budget)
        unpickler.storage_of = storage_of
        return unpickler.load()


_LOCAL_HEADER = struct.Struct("<4s22xHH")


def _go_to(file: IO[bytes], info: zipfile.ZipInfo, budget: Budget) -> None:
    """Seek to the content of a zip member, which is as long as it is in the file."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
        raise Refused("its archive is compressed, which torch.save never does")
    if info.file_size > budget.size:
        raise Refused(f"{info.file_size:,} bytes are more than a file of {budget.size:,} bytes can hold")
    file.seek(info.header_offset)
    signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    expect(signature == b"PK\x03\x04", "archive")
    file.seek(name + extra, io.SEEK_CUR)


# --- legacy


def _read_legacy(file: IO[bytes], place: Callable, budget: Budget) -> Any:
    if Unpickler(file, budget).load() != MAGIC_NUMBER:
        raise ValueError("it begins as no file of torch.save does")
    if Unpickler(file, budget).load() != PROTOCOL_VERSION:
        raise ValueError("its version is unknown")
    Unpickler(file, budget).load()  # what the machine was that wrote it
    storages: dict[Any, TypedStorage] = {}

    def storage_of(name: Any) -> TypedStorage:
        _, dtype, key, location, count, view = _storage_id(name, 6)
        if key not in storages:
            budget.take_storage(count * dtype.itemsize)
            storages[key] = _typed(place(torch.UntypedStorage(count * dtype.itemsize), location), dtype)
        if view is None:
            return storages[key]
        return _view(storages[key], *view[1:])

    unpickler = _Tensors(file, budget)
    unpickler.storage_of = storage_of
    value = unpickler.load()
    keys = Unpickler(file, budget).load()
    expect(type(keys) is list and set(keys) == storages.keys(), "list of storages")
    for key in keys:
        _fill_placed(file, storages[key])
    return value


def _count(file: IO[bytes]) -> int:
    (count,) = struct.unpack("<q", file.read(8))
    return count


def _fill_placed(file: IO[bytes], placed: TypedStorage) -> None:
    target = placed._untyped_storage
    expect(_count(file) * placed.dtype.itemsize == target.nbytes(), "storage's size")
    if target.device.type == "cpu":
        _fill(file, torch.empty(0, dtype=torch.uint8).set_(target))
    else:
        data = torch.empty(target.nbytes(), dtype=torch.uint8)
        _fill(file, data)
        target.copy_(data.untyped_storage())


def _view(storage: TypedStorage, offset: Any, count: Any) -> TypedStorage:
    item = storage.dtype.itemsize
    expect(type(offset) is int and type(count) is int and min(offset, count) >= 0, "storage's view")
    expect((offset + count) * item <= storage._untyped_storage.nbytes(), "storage's view")
    return _typed(storage._untyped_storage[offset * item : (offset + count) * item], storage.dtype)


# --- tar


_BLOCK = 512


def _tar_members(file: IO[bytes]) -> dict[str, tuple[int, int]]:
    """Where the plain files of a tar archive begin and how long they are; empty if it is no tar archive.

    Python's ``tarfile`` follows links, sparse files and negative sizes, which torch never wrote.
    """
    members = {}
    while len(header := file.read(_BLOCK)) == _BLOCK and any(header):
        try:
            checksum, size = (int(header[a:b].strip(b" \0") or b"0", 8) for a, b in ((148, 156), (124, 136)))
        except ValueError:
            return {}
        if checksum != sum(header[:148]) + 8 * 32 + sum(header[156:]) or size < 0:
            return {}
        if header[156:157] in (b"0", b"\0"):
            members[header[:100].rstrip(b"\0").decode("latin1")] = (file.tell(), size)
        file.seek(-(-size // _BLOCK) * _BLOCK, io.SEEK_CUR)
    return members


def _read_tar(
    archive: IO[bytes], members: dict[str, tuple[int, int]], place: Callable, budget: Budget
) -> Any:
    def member(name: str) -> IO[bytes]:
        start, size = members[name]
        expect(size <= budget.size, "archive")
        archive.seek(start)
        return io.BytesIO(archive.read(size))

    found: dict[Any, Any] = {}
    file = member("storages")
    for _ in range(Unpickler(file, budget).load()):
        key, location, kind = Unpickler(file, budget).load()
        _storage_id(("storage", kind, key, location, 0), 5)
        storage = _filled(file, _count(file) * kind.dtype.itemsize, budget)
        found[key] = _typed(place(storage, location), kind.dtype)
    for key, root, offset, count in Unpickler(file, budget).load():
        found[key] = _view(found[root], offset, count)

    file = member("tensors")
    for _ in range(Unpickler(file, budget).load()):
        reader = Unpickler(file, budget)
        key, storage, _ = reader.load()
        (dims,) = struct.unpack("<i4x", file.read(8))
        expect(0 <= dims <= 64, "tensor's size")
        size, stride = (struct.unpack(f"<{dims}q", file.read(8 * dims)) for _ in range(2))
        found[key] = REBUILD_TENSOR.build(reader, found[storage], _count(file), size, stride)

    unpickler = _Tensors(member("pickle"), budget)
    # Modules come with their source code, which is of no use.
    unpickler.storage_of = lambda name: name[0] if type(name) is tuple else found[int(name)]
    return unpickler.load()
