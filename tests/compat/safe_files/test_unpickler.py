"""No hostile pickle runs, crashes, changes a class or takes memory, on any way in."""

import argparse
import io
import json
import pickle
import resource
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter

import mmengine
import numpy as np
import payloads
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.structures import InstanceData

from attn_mm.compat.checkpoints import load_checkpoint_file
from attn_mm.compat.file_handlers import load_pickle
from attn_mm.errors import CheckpointError, UnreadableFile, UnsafeCheckpointError, UnsafeFile

MOST_MEGABYTES = 200


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def ways_in(payload):
    yield "pickle", payload, load_pickle
    for form, write in payloads.CHECKPOINTS.items():
        yield form, write(payload), load_checkpoint_file


def outcome(load, data):
    try:
        load(io.BytesIO(data))
    except (UnsafeCheckpointError, UnsafeFile):
        return "refused"
    except (CheckpointError, UnreadableFile):
        return "unreadable"
    return "loaded"


def classes():
    held = (HistoryBuffer, MessageHub, argparse.Namespace, torch.Tensor, torch._utils._rebuild_tensor_v2)
    return (
        [dict(vars(item)) for item in held],
        dict(HistoryBuffer._statistics_methods),
        np.dtype("f8").isnative,
    )


@pytest.mark.parametrize("kind", payloads.KINDS)
def test_payloads_are_refused(kind, tmp_path):
    HistoryBuffer()
    marker = tmp_path / "ran"
    before, start = classes(), peak()
    for name, payload in payloads.all_of(str(marker)).items():
        if not name.startswith(kind) or name in payloads.SLOW:
            continue
        for form, data, load in ways_in(payload):
            allowed = {"refused", "unreadable"} | ({"loaded"} if name in payloads.HARMLESS else set())
            assert outcome(load, data) in allowed, (name, form)
            assert not marker.exists(), (name, form)
    assert classes() == before
    assert peak() - start < MOST_MEGABYTES


@pytest.mark.parametrize("bomb", ["frame", "bytes8", "unicode8"])
def test_an_open_file_takes_no_memory_for_more_than_it_has(bomb, tmp_path):
    path = tmp_path / "short.pth"
    path.write_bytes(payloads.CHECKPOINTS["legacy"](payloads.all_of("")[f"bombs: {bomb}"]))
    with pytest.raises(CheckpointError, match=r"short\.pth.*it names \d+ bytes, and has \d+"):
        load_checkpoint_file(path)


# What each payload does to the loaders that the frameworks call, in a process of its own.
MATRIX = """
import json, os, sys, resource
resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
import attn_mm, torch, mmengine
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader, _load_checkpoint
from attn_mm.compat.object_arrays import load as load_numpy
from attn_mm.datasets.coco_files import read_detections
checkpoints = {
    "torch.load": torch.load,
    "load_checkpoint": lambda path: load_checkpoint(torch.nn.Identity(), path),
    "CheckpointLoader": CheckpointLoader.load_checkpoint,
    "hub": lambda path: torch.hub.load_state_dict_from_url(
        f"https://x.invalid/{os.path.basename(path)}", os.path.dirname(path)
    ),
}
pickles = {"mmengine.load": mmengine.load, "np.load": load_numpy, "bbox_file": read_detections}
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
peak_before = peak()
for name, ways, path in json.load(sys.stdin):
    for way in ways:
        try:
            {**checkpoints, **pickles}[way](path)
            result = "loaded"
        except Exception as error:
            result = type(error).__name__
        print(json.dumps([name, way, path, result, peak() - peak_before]), flush=True)
"""


@pytest.mark.whole
@pytest.mark.timeout(3600)
def test_every_payload_on_every_way_in(tmp_path):
    marker = tmp_path / "ran"
    tasks = []
    for number, (name, payload) in enumerate(payloads.all_of(str(marker)).items()):
        for form, data, _ in ways_in(payload):
            path = tmp_path / f"{number}_{form}.{'pkl' if form == 'pickle' else 'pth'}"
            path.write_bytes(data)
            ways = (
                ["mmengine.load", "np.load", "bbox_file"]
                if form == "pickle"
                else ["torch.load", "load_checkpoint", "hub"]
            )
            tasks.append((name, ways[:1] if name in payloads.SLOW else ways, str(path)))
    done = subprocess.run(
        [sys.executable, "-c", MATRIX], input=json.dumps(tasks), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(rows) == sum(len(ways) for _, ways, _ in tasks)
    assert not marker.exists()
    held = {"UnsafeCheckpointError", "UnsafeFile", "CheckpointError", "UnreadableFile", "UserError"}
    wrong = [row for row in rows if row[3] not in held and row[0] not in payloads.HARMLESS]
    assert not wrong
    assert max(row[4] for row in rows) < 500
    numbers = Counter(row[0].partition(":")[0] for row in rows)
    print("\nkind, pickles, tries, held, peak MB above the start")
    for kind, count in numbers.items():
        number = len(payloads.KINDS[kind](""))
        print(kind, number, count, count, max(row[4] for row in rows if row[0].startswith(kind)), sep=", ")


# --- what honest files have


RESULTS = dict(
    array=np.arange(6.0).reshape(2, 3),
    fortran=np.asfortranarray(np.arange(6).reshape(2, 3)),
    empty=np.zeros((0, 4), np.float32),
    texts=np.array(["a", "bc"]),
    objects=np.array([1, None, "x"], dtype=object),
    scalar=np.float32(0.5),
    tensor=torch.arange(3),
    instances=InstanceData(boxes=torch.ones(2, 4), names=["a", "b"], metainfo=dict(size=(3, 4))),
    nested=[dict(a=(1, 2), b={3}), frozenset({"x"})],
    config=ConfigDict(a=dict(b=1)),
    span=range(3),
    window=slice(0, 4, None),
    number=1 + 2j,
)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_results_and_annotations_come_back(tmp_path, protocol):
    """What ``tools/test.py --out`` writes, and what mmaction's sets of skeletons are."""
    path = tmp_path / "results.pkl"
    mmengine.dump(RESULTS, path, protocol=protocol)
    loaded = mmengine.load(path)
    assert loaded.keys() == RESULTS.keys()
    for key in ("array", "fortran", "empty", "texts", "objects", "scalar", "tensor"):
        assert loaded[key].dtype == RESULTS[key].dtype
        np.testing.assert_array_equal(loaded[key], RESULTS[key])
    assert loaded["fortran"].flags["F_CONTIGUOUS"]
    assert torch.equal(loaded["instances"].boxes, RESULTS["instances"].boxes)
    assert loaded["instances"].metainfo == {"size": (3, 4)}
    for key in ("nested", "config", "span", "window", "number"):
        assert loaded[key] == RESULTS[key] and type(loaded[key]) is type(RESULTS[key])


def test_text_of_python_2(tmp_path):
    path = tmp_path / "old.pkl"
    path.write_bytes(b"\x80\x02}U\x04nameU\x02\xe9as.")
    assert mmengine.load(path, encoding="latin1") == {"name": "\xe9a"}


def test_many_small_annotations_are_no_bomb():
    """The densest honest pickles: pairs of small integers, each of them remembered."""
    pairs = [(i % 100, i % 7) for i in range(100_000)]
    data = pickle.dumps([tuple(pair) for pair in pairs], 4)
    assert load_pickle(io.BytesIO(data)) == pairs


def test_tied_weights_and_views_load(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    state = dict(a=base, tied=base, column=base[:, 1], transposed=base.T, none=base[:0])
    for zipped in (True, False):
        torch.save(state, tmp_path / "views.pth", _use_new_zipfile_serialization=zipped)
        loaded = load_checkpoint_file(tmp_path / "views.pth")
        for key, value in state.items():
            assert torch.equal(loaded[key], value) and loaded[key].stride() == value.stride()
        assert loaded["a"].data_ptr() == loaded["tied"].data_ptr()


def test_a_compressed_archive_is_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", payloads._in_a_dict(b"\x80\x04N."))
        archive.writestr("a/data/0", bytes(10**6))
    with pytest.raises(UnsafeCheckpointError, match="compressed"):
        load_checkpoint_file(path)


def test_a_link_in_a_tar_is_not_followed(tmp_path):
    path = tmp_path / "link.pth"
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/dev/zero"
            archive.addfile(info)
    with pytest.raises(CheckpointError):
        load_checkpoint_file(path)


def test_parameters_of_torch_0_1_to_0_3():
    """As torchvision's first weights have them: a parameter without data, then its state."""
    state = (payloads.tensor(), None, payloads.hooks(), True, False)
    old = payloads.build(payloads.new(payloads.name("torch.nn.parameter", "Parameter")), state)
    for write in (payloads.as_zip, payloads.as_legacy):
        parameter = load_checkpoint_file(io.BytesIO(write(b"\x80\x02" + old + b".")))["meta"]
        assert type(parameter) is torch.nn.Parameter and parameter.tolist() == [1.0]
        assert parameter.requires_grad
