"""Hostile pickles, each a few hundred bytes, by what they attack.

A pickle is put together from its instructions, because Python's own pickler writes none of
these. ``{marker}`` is a file that a payload makes if its code runs.
"""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile

import torch


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def raw(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def number(value: int) -> bytes:
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def value_of(value) -> bytes:
    """Instructions that push ``value``; bytes are instructions already."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return number(value)
    if isinstance(value, tuple):
        return b"(" + b"".join(map(value_of, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(value_of, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(value_of(x) for pair in value.items() for x in pair) + b"u"
    return b"N"


def call(function: bytes, *args) -> bytes:
    return function + value_of(args) + b"R"


def new(cls: bytes, *args) -> bytes:
    return cls + value_of(args) + b"\x81"


def new_ex(cls: bytes, args: tuple, options: dict) -> bytes:
    return cls + value_of(args) + value_of(options) + b"\x92"


def build(target: bytes, state) -> bytes:
    return target + value_of(state) + b"b"


def storage(key="0", count=1, kind=b"ctorch\nFloatStorage\n", location="cpu") -> bytes:
    return value_of((text("storage"), kind, key, location, count)) + b"Q"


def utils(function: str, *args) -> bytes:
    return call(name("torch._utils", function), *args)


def hooks() -> bytes:
    return call(name("collections", "OrderedDict"))


def tensor(size=(1,), stride=(1,), offset=0, of=None, grad=False, after=None, function="_rebuild_tensor_v2"):
    args = (storage() if of is None else of, offset, size, stride, grad, hooks() if after is None else after)
    return call(name("torch._utils", function), *args)


def repeated(start: bytes, step: bytes, times: int) -> bytes:
    """``start``, and then ``times`` times a step from what is on the stack to what replaces it."""
    return start + step * times


PRINT = name("builtins", "print")
DTYPE = name("numpy", "dtype")
NDARRAY = name("numpy", "ndarray")
RECONSTRUCT = name("numpy.core.multiarray", "_reconstruct")
HISTORY = name("mmengine.logging.history_buffer", "HistoryBuffer")
HUB = name("mmengine.logging.message_hub", "MessageHub")
CONFIG = name("mmengine.config.config", "ConfigDict")
NAMESPACE = name("argparse", "Namespace")
ORDERED = name("collections", "OrderedDict")
PARAMETER = name("torch.nn.parameter", "Parameter")
GETATTR = name("builtins", "getattr")
FLOAT64 = build(call(DTYPE, "f8", False, True), (3, "<", b"N", b"N", b"N", -1, -1, 0))
UNTYPED = name("torch.storage", "UntypedStorage")
SCALAR = name("numpy.core.multiarray", "scalar")
REBUILD = name("torch._utils", "_rebuild_tensor_v2")
FROM_TYPE = name("torch._tensor", "_rebuild_from_type_v2")
BIG = 40 * 10**9


def code(marker: str) -> dict[str, bytes]:
    """What runs code, in one step or in several."""
    touch = f"open({marker!r}, 'w').close()"
    system = name("os", "system")
    shell = f"touch {marker}"
    inner = io.BytesIO()
    torch.save([1], inner, _use_new_zipfile_serialization=False)
    return {
        "os.system": call(system, shell),
        "posix.system": call(name("posix", "system"), shell),
        "subprocess": call(name("subprocess", "Popen"), ["touch", marker]),
        "exec": call(name("builtins", "exec"), touch),
        "eval": call(name("builtins", "eval"), touch),
        "python 2 names": call(name("__builtin__", "execfile"), marker),
        "compile": call(name("builtins", "compile"), touch, "x", "exec"),
        "import": call(name("builtins", "__import__"), "antigravity"),
        "importlib": call(name("importlib", "import_module"), "this"),
        "open": call(name("builtins", "open"), marker, "w"),
        "partial": call(call(name("functools", "partial"), system, shell)),
        "map": call(name("builtins", "list"), call(name("builtins", "map"), system, [shell])),
        "methodcaller": call(call(name("operator", "methodcaller"), "touch"), text(marker)),
        "pathlib": call(name("pathlib", "Path.touch"), call(name("pathlib", "PosixPath"), marker)),
        "dotted name": call(name("attn_mm.errors", "sys.modules"), "os"),
        "stack global": text("os") + text("system") + b"\x93" + value_of((shell,)) + b"R",
        "inst": b"(" + text(shell) + b"ios\nsystem\n",
        "obj": b"(" + system + text(shell) + b"o",
        "extension": b"\x82\x01",
        "runpy": call(name("runpy", "run_path"), marker),
        "timeit": call(name("timeit", "timeit"), touch),
        "torch.load": call(name("torch.serialization", "load"), marker),
        "torch.hub": call(name("torch.hub", "load"), "x/y", "z"),
        "jit": call(name("torch.jit._serialization", "load"), marker),
        "cpp extension": call(name("torch.utils.cpp_extension", "load"), "x", marker),
        "mmengine registry": call(name("mmengine.config.utils", "_get_package_and_cfg_path"), "x::y"),
        "config": call(name("mmengine.config.config", "Config.fromstring"), touch, ".py"),
        "lazy object": call(name("mmengine.config.lazy", "LazyObject"), "os"),
        "numpy load": call(name("numpy", "load"), marker, None, True),
        "globals of a method": call(GETATTR, call(GETATTR, HISTORY, "__init__"), "__globals__"),
        "method of a type": call(GETATTR, name("builtins", "dict"), "get"),
        "subclasses": call(GETATTR, name("builtins", "dict"), "__subclasses__"),
        "hidden in a torch file": call(
            name("torch.storage", "_load_from_bytes"), raw(b"\x80\x02" + call(system, shell) + b".")
        ),
        "any codec": call(name("_codecs", "encode"), "a", "uu"),
        "codec lookup": call(name("_codecs", "lookup"), "idna"),
        "backward hooks": tensor(grad=True, after=value_of({0: PRINT})),
        "setstate of a module": build(new(name("torch.nn.modules.linear", "Identity")), {"training": True}),
        "a module": new(name("torch.nn.modules.container", "Sequential")),
        "a call of data": call(value_of("text"), 1),
        "a call of a dict": call(value_of({}), 1),
        "a call of a built record": call(call(CONFIG), 1),
    }


def state(marker: str) -> dict[str, bytes]:
    """What changes classes, functions and records that outlive the file."""
    evil = {"evil": 1}
    rebuilt = (name("torch", "Tensor"), (), evil)
    return {
        "class": build(HUB, (None, evil)),
        "class by its dict": build(HISTORY, evil),
        "function": build(name("torch._utils", "_rebuild_tensor_v2"), evil),
        "method": build(call(GETATTR, HISTORY, "mean"), evil),
        "tensor class": build(name("torch", "Tensor"), (None, evil)),
        "rebuild sets state on a class": call(FROM_TYPE, HISTORY, *rebuilt),
        "rebuild calls anything": call(FROM_TYPE, PRINT, name("torch", "Tensor"), (marker,), evil),
        "rebuild of another type": call(
            FROM_TYPE, name("torch._utils", "_rebuild_tensor_v2"), HISTORY, (), evil
        ),
        "statistics of all histories": build(
            new(HISTORY),
            {
                "max_length": 1,
                "_log_history": call(RECONSTRUCT, NDARRAY, (0,), raw(b"b")),
                "_count_history": "x",
                "statistics_methods": {"mean": PRINT},
            },
        ),
        "history of text": build(
            new(HISTORY), {"max_length": 1, "_log_history": "ab", "_count_history": "ab"}
        ),
        "class of a record": build(new(NAMESPACE), {"__class__": HISTORY}),
        "slots of a record": build(new(NAMESPACE), (None, evil)),
        "dict that overwrites methods": build(call(ORDERED), {"items": PRINT}),
        "hub's methods": build(new(HUB), {"get_info": PRINT}),
        "flags of a dtype": build(call(DTYPE, "O8"), (3, "|", None, None, None, -1, -1, 0)),
        "size of a dtype": build(call(DTYPE, "S1", False, True), (3, "|", None, None, None, -8, 1, 0)),
        "fields of a dtype": build(
            call(DTYPE, "V16"), (3, "|", None, ("a",), {"a": (FLOAT64, 99)}, 16, 1, 16)
        ),
        "metadata of a data element": build(
            new(name("mmengine.structures.instance_data", "InstanceData")),
            {"_metainfo_fields": call(name("builtins", "set"), ["to"]), "to": 1},
        ),
    }


def memory(marker: str) -> dict[str, bytes]:
    """What reads or writes where nothing is."""
    one = ((1,), FLOAT64)
    return {
        "storage with an allocator": new_ex(UNTYPED, (8,), {"allocator": 0x41414141}),
        "storage by a call": call(UNTYPED, 8),
        "typed storage": new(name("torch.storage", "TypedStorage"), 8),
        "storage longer than its member": tensor((1000,), of=storage(count=1000)),
        "storage of negative length": tensor(of=storage(count=-8)),
        "storage of a text": tensor(of=text("storage")),
        "storage that is missing": tensor(of=storage(key="17")),
        "storage elsewhere in the archive": tensor(of=storage(key="../data.pkl")),
        "storage on the meta device": tensor(of=storage(location="meta")),
        "storage on a device that is none": tensor(of=storage(location="nowhere")),
        "storage with a class of another kind": tensor(of=storage(kind=HISTORY)),
        "a module by its persistent id": value_of(("module", HISTORY, "file", "source")) + b"Q",
        "tensor beyond its storage": tensor((2,)),
        "tensor after its storage": tensor(offset=1),
        "tensor before its storage": tensor(offset=-1),
        "strides beyond the storage": tensor((2,), (10**9,)),
        "negative strides": tensor((2,), (-1,)),
        "negative size": tensor((-1,)),
        "more strides than sizes": tensor((1,), (1, 1)),
        "state of a parameter": build(new(PARAMETER), (tensor((2,)), None, hooks(), True, False)),
        "hooks of a parameter": build(new(PARAMETER), (True, False, {0: PRINT})),
        "size of text": tensor(("a",)),
        "set on a tensor": build(tensor(), (storage(), 0, (10**9,), (1,))),
        "quantised": utils("_rebuild_qtensor", storage(), 0, (1,), (1,), (1, 2, 3), False),
        "sparse": utils("_rebuild_sparse_tensor", None, (tensor(), tensor(), (9,))),
        "meta": utils("_rebuild_meta_tensor_no_storage", None, (BIG,), (1,), False),
        "wrapper": utils("_rebuild_wrapper_subclass", HISTORY, None, (1,), (1,), 0, 0, 0, False),
        "from numpy": utils("_rebuild_device_tensor_from_numpy", 1, None, "cpu", False),
        "parameter of a text": utils("_rebuild_parameter", "a", False, hooks()),
        "ndarray over raw pointers": new(NDARRAY, (1,), "O8", raw(b"\x41" * 8)),
        "reconstruct of a class": call(RECONSTRUCT, HISTORY, (0,), raw(b"b")),
        "array with too few bytes": build(
            call(RECONSTRUCT, NDARRAY, (0,), raw(b"b")), (1, *((BIG,), FLOAT64), False, raw(b"12345678"))
        ),
        "array of pointers": build(
            call(RECONSTRUCT, NDARRAY, (0,), raw(b"b")), (1, (1,), call(DTYPE, "O8"), False, raw(b"\x41" * 8))
        ),
        "array filled twice": build(
            build(call(RECONSTRUCT, NDARRAY, (0,), raw(b"b")), (1, *one, False, raw(b"12345678"))),
            (1, *one, False, raw(b"12345678")),
        ),
        "buffer of objects": call(
            name("numpy.core.numeric", "_frombuffer"), raw(b"\x41" * 8), call(DTYPE, "O8"), (1,), "C"
        ),
        "scalar of a pointer": call(SCALAR, call(DTYPE, "O8"), raw(b"\x41" * 8)),
        "ctypes": call(name("ctypes", "string_at"), 0),
        "memoryview": call(name("builtins", "memoryview"), raw(b"a")),
        "code object": call(name("types", "CodeType"), 0),
    }


def bombs(marker: str) -> dict[str, bytes]:
    """What takes memory that no file of this size needs."""
    big_range = call(name("builtins", "range"), 0, 3 * 10**8, 1)
    put, get = b"q\x00", b"h\x00"
    large_number = b"\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6
    make_set, make_array = name("builtins", "set"), name("builtins", "bytearray")
    shared = repeated(b"N" + put, b"}(" + text("a") + get + text("b") + get + b"u" + put, 40)
    return {
        "list of a range": call(name("builtins", "list"), big_range),
        "range": big_range,
        "set of a range": call(name("builtins", "set"), big_range),
        "frozenset of a range": call(name("builtins", "frozenset"), big_range),
        "tuple of a range": call(name("builtins", "tuple"), big_range),
        "deque of a range": call(name("collections", "deque"), big_range),
        "counter of a range": call(name("collections", "Counter"), big_range),
        "dict of a range": call(name("builtins", "dict"), big_range),
        "bytearray": call(name("builtins", "bytearray"), BIG),
        "bytes": call(name("builtins", "bytes"), BIG),
        "str of a large number": call(name("builtins", "str"), large_number),
        "power": call(name("builtins", "pow"), 10, 10**9),
        "text times a number": call(name("operator", "mul"), "a", BIG),
        "frame": b"\x95" + struct.pack("<Q", BIG),
        "bytearray8": b"\x96" + struct.pack("<Q", BIG),
        "bytes8": b"\x8e" + struct.pack("<Q", BIG),
        "unicode8": b"\x8d" + struct.pack("<Q", BIG),
        "long4": b"\x8b" + struct.pack("<i", 2**31 - 1),
        "binstring": b"T" + struct.pack("<i", 2**31 - 1),
        "memo of a large index": b"Nr\xff\xff\xff\xff",
        "a hundred thousand marks": b"(" * 10**5,
        "400,000 sets": b"\x8f" * 400_000,
        "250,000 records": NAMESPACE + put + (get + b")\x81") * 250_000,
        "nested lists": repeated(b"]" + put, b"](" + get + get + b"e" + put, 40),
        "nested tuples": repeated(b"N" + put, get + b"\x86" + put, 40),
        "nested dicts": shared,
        "tuples as keys": repeated(b"N" + put, get + b"\x86" + put, 40) + b"0}" + get + b"Ns",
        "deep lists": b"]" * 100_000 + b"a" * 99_999,
        "deep tuples": b"N" + b"\x85" * 100_000,
        "list in itself": b"]" + put + get + b"a",
        "copies of a list": value_of([0] * 10_000) + put + (make_set + get + b"\x85R") * 10_000,
        "copies of a NumPy text": call(DTYPE, "S100000")
        + put
        + raw(b"a" * 100_000)
        + b"q\x01"
        + SCALAR
        + b"q\x02"
        + (b"h\x02" + get + b"h\x01\x86R") * 5_000,
        "copies of bytes": raw(b"a" * 10_000) + put + (make_array + get + b"\x85R") * 50_000,
        "tensor of a large storage": tensor((10**10,), of=storage(count=10**10)),
        "tensor that repeats one element": tensor((10**10,), (0,)),
        "tensors that repeat one element": tensor((10**7,), (0,)) + put + tensor((10**7,), (0,)) * 5,
        "ndarray": new(NDARRAY, (BIG,), "f8"),
        "empty": call(name("numpy", "zeros"), BIG),
        "dtype": call(DTYPE, "S2000000000"),
        "torch.zeros": call(name("torch", "zeros"), BIG),
        "size": call(name("torch", "Size"), big_range),
        "config of nested dicts": repeated(
            b"}" + put, b"}(" + text("a") + get + text("b") + get + b"u" + put, 40
        )
        + b"0"
        + CONFIG
        + get
        + b"\x85R",
    }


# These take seconds to be refused, because Python reads each of their instructions.
SLOW = {
    "bombs: 400,000 sets",
    "bombs: 250,000 records",
    "bombs: deep tuples",
    "bombs: deep lists",
}
# Nothing is wrong with these but how they look.
HARMLESS = {
    "memory: storage on a device that is none",  # it is put onto the one that is asked for
    "memory: a module by its persistent id",  # in a tar file: its name
    "bombs: memo of a large index",
    "bombs: dtype",
}

KINDS = {"code": code, "state": state, "memory": memory, "bombs": bombs}


def all_of(marker: str) -> dict[str, bytes]:
    """Each payload as a whole pickle, named ``kind: name``."""
    return {
        f"{kind}: {title}": b"\x80\x04" + program + b"."
        for kind, payloads in KINDS.items()
        for title, program in payloads(marker).items()
    }


# --- the files that they are put into


def _in_a_dict(payload: bytes) -> bytes:
    """The pickle of ``{"meta": payload, "state_dict": {}}``."""
    program = payload[2:-1]
    return b"\x80\x04}(" + text("meta") + program + text("state_dict") + b"}u."


def as_zip(payload: bytes) -> bytes:
    """A checkpoint of torch >= 1.6 with one storage of four bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a/data.pkl", _in_a_dict(payload))
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", b"\0\0\x80\x3f")
        archive.writestr("a/version", "3\n")
    return file.getvalue()


def as_legacy(payload: bytes) -> bytes:
    """A checkpoint of torch 1.5 with one storage of four bytes."""
    file = io.BytesIO()
    torch.save({}, file, _use_new_zipfile_serialization=False)
    head = file.getvalue()
    empty = pickle.dumps({}, 2)
    start = head.rindex(empty)
    tail = pickle.dumps(["0"], 2) + struct.pack("<q", 1) + b"\0\0\x80\x3f"
    return head[:start] + _in_a_dict(payload) + tail


def as_tar(payload: bytes) -> bytes:
    """A checkpoint of torch 0.1 without storages."""
    file = io.BytesIO()
    members = {
        "storages": pickle.dumps(0, 2) + pickle.dumps([], 2),
        "tensors": pickle.dumps(0, 2),
        "pickle": _in_a_dict(payload),
    }
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


CHECKPOINTS = {"zip": as_zip, "legacy": as_legacy, "tar": as_tar}
