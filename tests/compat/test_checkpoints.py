"""Real checkpoints resume exactly; hostile and broken ones are refused, on every way in."""

import argparse
import datetime
import functools
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import OrderedDict, defaultdict
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.fileio.backends import LocalBackend
from mmengine.infer import BaseInferencer
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import Runner, load_checkpoint
from mmengine.runner import checkpoint as mmengine_checkpoint
from small_network import Net, NoMetric
from torch import nn
from torch.utils.data import Dataset

import attn_mm
from attn_mm.compat.checkpoints import load_checkpoint_file
from attn_mm.errors import CheckpointError, PretrainedUnavailableError, UnsafeCheckpointError

# --- a small real training


class Points(Dataset):
    @property
    def metainfo(self):
        return dict(classes=("a", "b"), sigmas=np.full(3, 0.5, np.float32), palette=[(1, 2, 3)])

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return dict(x=torch.full((2,), float(index)))


def make_runner(work_dir, **options):
    loader = dict(dataset=Points(), batch_size=4, sampler=dict(type="DefaultSampler", shuffle=False))
    return Runner(
        model=options.pop("model", None) or Net(),
        work_dir=str(work_dir),
        experiment_name=f"{work_dir.name}_{time.perf_counter_ns()}",
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type="Adam", lr=0.01), clip_grad=dict(max_norm=1.0)),
        param_scheduler=[
            dict(type="OneCycleLR", eta_max=0.1, total_steps=6, by_epoch=False),
            dict(type="MultiStepLR", milestones=[1, 2]),
        ],
        test_dataloader=loader,
        test_cfg=dict(),
        test_evaluator=NoMetric(),
        custom_hooks=[dict(type="EMAHook")],
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1)),
        log_level="ERROR",
        **options,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    runner = make_runner(tmp_path_factory.mktemp("trained"))
    runner.train()
    return runner


@pytest.fixture
def good(trained):
    return os.path.join(trained.work_dir, "epoch_3.pth")


def same(a, b):
    """Equal in type and, to the last bit, in value."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, HistoryBuffer):
        return same(a.__dict__, b.__dict__)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return a == b and type(a) is type(b)


def test_everything_saved_is_loaded(good):
    assert same(load_checkpoint_file(good), torch.load(good, weights_only=False))


def test_a_resumed_run_ends_where_an_unbroken_one_does(trained, tmp_path):
    (tmp_path / "last_checkpoint").write_text(os.path.join(trained.work_dir, "epoch_2.pth"))
    resumed = make_runner(tmp_path, resume=True)
    resumed.train()
    assert resumed.iter == trained.iter == 6
    assert same(resumed.model.state_dict(), trained.model.state_dict())
    assert same(resumed.optim_wrapper.state_dict(), trained.optim_wrapper.state_dict())
    ends = [
        load_checkpoint_file(os.path.join(runner.work_dir, "epoch_3.pth")) for runner in (trained, resumed)
    ]
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers"):
        assert same(ends[0][part], ends[1][part])
    for name in ("train/loss", "train/lr", "train/grad_norm"):
        histories = [end["message_hub"]["log_scalars"][name] for end in ends]
        assert len(histories[0].data[0]) == 6
        assert same(*histories)


def test_weights_keep_their_version_metadata(good):
    state = load_checkpoint_file(good)["state_dict"]
    assert type(state) is OrderedDict
    assert state._metadata["backbone.1"] == {"version": 2}


ODD_META = dict(
    mmcv_version="1.7.0",
    CLASSES=("person",),
    score=np.float32(0.25),
    best=np.float64(0.5),
    count=np.int64(7),
    flag=np.bool_(True),
    names=np.array(["left eye", "nose"]),
    mixed=np.array([None, "x", 3], dtype=object),
    when=datetime.datetime(2020, 2, 29),
    args=argparse.Namespace(lr=0.1),
    groups=defaultdict(list, a=[1]),
    tags={"x", frozenset({1})},
    raw=b"\x00\xff",
    device=torch.device("cpu"),
    kind=torch.float16,
)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_odd_meta_of_old_checkpoints(tmp_path, zipped, protocol):
    path = tmp_path / "old.pth"
    weight = torch.randn(3).half()
    torch.save(
        dict(meta=ODD_META, state_dict=OrderedDict(w=nn.Parameter(weight))),
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )
    loaded = load_checkpoint_file(path)
    assert same(loaded["meta"], ODD_META)
    assert torch.equal(loaded["state_dict"]["w"], weight)


def with_data_pkl(path, change):
    """Rewrite the pickle inside a zip checkpoint."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name, data in members.items():
            new.writestr(name, change(data) if name.endswith("/data.pkl") else data)
    return path


@pytest.mark.parametrize("name", [b"numpy.core", b"numpy._core"])
def test_arrays_of_numpy_1_and_2(tmp_path, name):
    path = tmp_path / "array.pth"
    torch.save(dict(a=np.arange(3.0), b=np.float32(2)), path)

    def rename(data):
        data = data.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", name)
        assert data.count(name) == 2
        return data

    assert same(load_checkpoint_file(with_data_pkl(path, rename)), dict(a=np.arange(3.0), b=np.float32(2)))


class NumberedTensors(pickle.Pickler):
    def persistent_id(self, item):
        return 8 if isinstance(item, torch.Tensor) else None


def write_tar_checkpoint(path, extra=None):
    """The format of torch 0.1: storages, tensors and pickle in a tar archive."""
    storages = io.BytesIO()
    for item in (1, (7, "cpu", torch.FloatStorage)):
        pickle.dump(item, storages, protocol=2)
    storages.write(struct.pack("<q2f", 2, 1.5, -2.0))
    pickle.dump([], storages, protocol=2)
    tensors = io.BytesIO()
    for item in (1, (8, 7, torch.FloatTensor)):
        pickle.dump(item, tensors, protocol=2)
    tensors.write(struct.pack("<iiqqq", 1, 0, 2, 1, 0))
    main = io.BytesIO()
    pickler = NumberedTensors(main, protocol=2)
    pickler.dump(dict(w=torch.zeros(1), extra=extra))
    with tarfile.open(path, "w") as archive:
        for name, file in dict(storages=storages, tensors=tensors, pickle=main).items():
            member = tarfile.TarInfo(name)
            member.size = file.tell()
            file.seek(0)
            archive.addfile(member, file)
    return path


def test_tar_checkpoint_of_torch_0_1(tmp_path):
    assert load_checkpoint_file(write_tar_checkpoint(tmp_path / "a.pth"))["w"].tolist() == [1.5, -2.0]


# --- hostile files


class Call:
    """Pickles as ``function(*args)``, and so runs it where it is loaded."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __call__(self):
        """Pickle takes only callables for the function of another call."""

    def __reduce__(self):
        return self.function, self.args


def payloads(marker):
    create = f"open({str(marker)!r}, 'w').close()"
    inner = io.BytesIO()
    torch.save([Call(exec, create)], inner, _use_new_zipfile_serialization=False)
    history_globals = Call(getattr, HistoryBuffer.__init__, "__globals__")
    hidden_open = Call(dict.get, Call(dict.get, history_globals, "__builtins__"), "open")
    return {
        "os.system": Call(os.system, f"touch {marker}"),
        "subprocess": Call(subprocess.check_call, ["touch", str(marker)]),
        "exec": Call(exec, create),
        "eval": Call(eval, create),
        "partial": Call(Call(functools.partial, os.mkdir), str(marker)),
        "getattr of a function": Call(hidden_open, str(marker), "w"),
        "torch file in a torch file": Call(torch.storage._load_from_bytes, inner.getvalue()),
        "in an array": np.array([Call(os.mkdir, str(marker))], dtype=object),
        "in a history": HistoryBuffer([Call(os.mkdir, str(marker))], [1]),
    }


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "payload-ran"


@pytest.fixture
def evil(tmp_path, marker):
    path = tmp_path / "evil.pth"
    torch.save(dict(state_dict={}, meta=Call(os.system, f"touch {marker}")), path)
    return str(path)


@pytest.mark.parametrize("form", ["zip", "zip, protocol 4", "legacy", "tar"])
@pytest.mark.parametrize("name", payloads(""))
def test_payload_is_refused_and_does_not_run(tmp_path, marker, name, form):
    path, payload = tmp_path / "evil.pth", payloads(marker)[name]
    if form == "tar":
        write_tar_checkpoint(path, extra=payload)
    else:
        options = dict(pickle_protocol=4 if "4" in form else 2, _use_new_zipfile_serialization="zip" in form)
        torch.save(dict(state_dict={}, meta=payload), path, **options)

    with pytest.raises(UnsafeCheckpointError, match=r"^refused .*evil\.pth.*add_safe_globals") as caught:
        load_checkpoint_file(path)
    assert "\n" not in str(caught.value)
    assert not marker.exists()

    torch.load(path, weights_only=False)  # the payload is live
    assert marker.exists()


def test_whole_modules_are_refused_by_name(tmp_path):
    path = tmp_path / "model.pth"
    torch.save(dict(model=nn.Sequential()), path)
    with pytest.raises(UnsafeCheckpointError, match=r"torch\.nn\.modules\.container\.Sequential"):
        load_checkpoint_file(path)


BY_HAND = {
    "state of a class": (
        b"cmmengine.logging.message_hub\nMessageHub\n(N}X\4\0\0\0evilI1\nstb",
        lambda _: hasattr(MessageHub, "evil"),
    ),
    "array over raw pointers": (b"cnumpy\nndarray\n((I0\ntX\2\0\0\0O8C\0tR", lambda a: a.dtype == object),
    "altered dtype": (
        b"cnumpy\ndtype\n(X\2\0\0\0S1tR(I3\nX\1\0\0\0|NNNI-8\nI1\nI0\ntb",
        lambda dtype: dtype.itemsize == -8,
    ),
    "refilled array": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntX\1\0\0\0btR"
        + 2 * b"(I1\n(I1\ntcnumpy\ndtype\n(X\2\0\0\0u1tRI00\nC\1\7tb",
        lambda array: array.tolist() == [7],
    ),
    "structured dtype": (b"cnumpy\ndtype\n(X\4\0\0\0O,i4tR", lambda dtype: dtype.names is not None),
    "any codec": (
        b"c_codecs\nencode\n(X\1\0\0\0aX\6\0\0\0utf-16tR",
        lambda data: data == "a".encode("utf-16"),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_pickles_written_by_hand(tmp_path, name, monkeypatch):
    """What ``pickle`` obeys, and no honest checkpoint needs."""
    program, obeyed = BY_HAND[name]
    path = tmp_path / "hand.pth"
    torch.save({}, path)
    with_data_pkl(path, lambda _: b"\x80\x03}X\x01\x00\x00\x00a" + program + b"s.")
    with pytest.raises(UnsafeCheckpointError):
        load_checkpoint_file(path)
    assert not hasattr(MessageHub, "evil")

    monkeypatch.setattr(MessageHub, "evil", None, raising=False)
    monkeypatch.delattr(MessageHub, "evil")  # so that it is deleted again afterwards
    assert obeyed(pickle.loads(b"\x80\x03" + program + b"."))


def test_byte_order_of_one_array_is_not_everybodys(tmp_path):
    path = tmp_path / "big.pth"
    torch.save(dict(a=np.arange(2, dtype=">f8")), path)

    def without_copy(data):  # so that the state would be set on NumPy's own float64
        assert data.count(b"\x89\x88\x87") == 1
        return data.replace(b"\x89\x88\x87", b"\x89\x89\x87")

    with_data_pkl(path, without_copy)
    assert load_checkpoint_file(path)["a"].tolist() == [0.0, 1.0]
    assert np.dtype("f8").isnative


def test_torchscript_is_refused(tmp_path):
    path = str(tmp_path / "script.pth")
    torch.jit.script(nn.Linear(1, 1)).save(path)
    with pytest.raises(UnsafeCheckpointError, match=r"script\.pth.*TorchScript"):
        load_checkpoint_file(path)


class Mine:
    pass


def test_users_can_vouch_for_a_class(tmp_path):
    path = tmp_path / "mine.pth"
    torch.save(dict(meta=Mine()), path)
    with pytest.raises(UnsafeCheckpointError, match=r"Mine.*add_safe_globals"):
        load_checkpoint_file(path)
    torch.serialization.add_safe_globals([Mine])
    try:
        assert isinstance(load_checkpoint_file(path)["meta"], Mine)
    finally:
        torch.serialization.clear_safe_globals()


# --- every way in


def from_train(file, tmp_path, monkeypatch):
    make_runner(tmp_path, load_from=file).train()


def from_test(file, tmp_path, monkeypatch):
    make_runner(tmp_path, load_from=file).test()


def from_resume(file, tmp_path, monkeypatch):
    (tmp_path / "last_checkpoint").write_text(file)
    make_runner(tmp_path, resume=True).train()


def from_init_cfg(file, tmp_path, monkeypatch):
    Net(init_cfg=dict(type="Pretrained", checkpoint=file)).init_weights()


def from_init_cfg_with_prefix(file, tmp_path, monkeypatch):
    Net(init_cfg=dict(type="Pretrained", checkpoint=file, prefix="backbone.")).init_weights()


def from_load_checkpoint(file, tmp_path, monkeypatch):
    load_checkpoint(Net(), file)


def cached(file, tmp_path, monkeypatch, name):
    """As if ``file`` had been downloaded as ``name`` before."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    os.link(file, folder / name)


def from_https(file, tmp_path, monkeypatch):
    cached(file, tmp_path, monkeypatch, "net-1.pth")
    load_checkpoint(Net(), "https://example.invalid/some/net-1.pth?v=2")


def from_torchvision(file, tmp_path, monkeypatch):
    cached(file, tmp_path, monkeypatch, "resnet50-0676ba61.pth")
    load_checkpoint(Net(), "torchvision://resnet50")


def from_open_mmlab(file, tmp_path, monkeypatch):
    monkeypatch.setenv("MMENGINE_HOME", str(tmp_path))
    (tmp_path / "open_mmlab.json").write_text(json.dumps(dict(mine=file)))
    load_checkpoint(Net(), "open-mmlab://mine")


def from_mmcls(file, tmp_path, monkeypatch):
    url = mmengine_checkpoint.get_mmcls_models()["vgg11"]
    cached(file, tmp_path, monkeypatch, url.rpartition("/")[2])
    load_checkpoint(Net(), "mmcls://vgg11")


class Bucket(LocalBackend):
    def get(self, filepath):
        return super().get(str(filepath).partition("://")[2])


def from_ceph(file, tmp_path, monkeypatch):
    monkeypatch.setattr(mmengine_checkpoint, "get_file_backend", lambda *args, **kwargs: Bucket())
    load_checkpoint(Net(), f"s3://{file}")


def from_pavi(file, tmp_path, monkeypatch):
    pavi = ModuleType("pavi")
    model = SimpleNamespace(name="net.pth", download=lambda target: os.link(file, target))
    pavi.modelcloud = SimpleNamespace(get=lambda path: model)
    monkeypatch.setitem(sys.modules, "pavi", pavi)
    load_checkpoint(Net(), "pavi://net")


def from_a_framework(file, tmp_path, monkeypatch):
    # As mmaction/models/roi_heads/shared_heads/lfb.py loads its feature banks.
    lfb = ModuleType("mmaction.models.lfb")
    exec("import torch\nload = lambda path: torch.load(path)", lfb.__dict__)
    lfb.load(file)


WAYS_IN = [value for name, value in list(globals().items()) if name.startswith("from_")]


@pytest.mark.parametrize("way_in", WAYS_IN, ids=lambda way_in: way_in.__name__[5:])
def test_every_way_in_is_guarded(way_in, good, evil, marker, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    with pytest.raises(UnsafeCheckpointError, match=r"system"):
        way_in(evil, tmp_path / "a", monkeypatch)
    assert not marker.exists()
    (tmp_path / "b").mkdir()
    way_in(good, tmp_path / "b", monkeypatch)


# --- configs inside checkpoints


@pytest.fixture
def with_program(good, tmp_path, marker):
    """A good checkpoint with a config that makes ``marker`` where it is run."""
    checkpoint = load_checkpoint_file(good)
    program = f"open({str(marker)!r}, 'w').close()\nmodel = dict(type='Net')\ngpu_ids = [0]\n"
    checkpoint["meta"] |= dict(config=program, cfg=program)
    checkpoint["message_hub"]["runtime_info"]["cfg"] = program
    path = tmp_path / "program.pth"
    torch.save(checkpoint, path)
    return str(path)


def test_resuming_runs_no_config(with_program, marker, tmp_path):
    runner = make_runner(tmp_path / "a", load_from=with_program, resume=True)
    runner.train()
    assert runner.iter == 6 and not marker.exists()
    assert "cfg" in load_checkpoint_file(with_program)["meta"]


def test_an_inferencer_runs_no_config(with_program, marker):
    class Inferencer(BaseInferencer):
        def visualize(self, *args, **kwargs):
            pass

        def postprocess(self, *args, **kwargs):
            pass

        def _init_pipeline(self, cfg):
            return list

    with pytest.raises(ValueError, match="Cannot find the config"):
        Inferencer(weights=with_program, scope="mmengine")
    assert not marker.exists()


def test_torch_load_is_torchs_own_where_the_call_says_how_to_unpickle(evil, marker):
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        torch.load(evil, weights_only=True)
    with pytest.raises(UnsafeCheckpointError, match="system"):
        torch.load(evil, weights_only=None)
    assert not marker.exists()
    torch.load(evil, weights_only=False)
    assert marker.exists()
    marker.unlink()
    torch.load(evil, "cpu", pickle, weights_only=False)
    assert marker.exists()


def test_errors_are_those_that_callers_of_torch_load_expect(evil, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        torch.load(tmp_path / "none.pth")
    with pytest.raises(pickle.UnpicklingError, match="system"):
        torch.load(evil)


def test_patching_twice_is_patching_once():
    attn_mm.compat.patch()
    assert torch.load.__wrapped__ is torch.serialization.load


# --- files that are no checkpoints


def truncated(path, good):
    with open(good, "rb") as file:
        path.write_bytes(file.read()[:-2000])


def truncated_legacy(path, good):
    buffer = io.BytesIO()
    torch.save(load_checkpoint_file(good), buffer, _use_new_zipfile_serialization=False)
    path.write_bytes(buffer.getvalue()[:-20])


def empty(path, good):
    path.touch()


def text(path, good):
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


def unrelated_zip(path, good):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photos/cat.txt", "meow")


def unrelated_tar(path, good):
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("cat"))


def a_list(path, good):
    torch.save([torch.ones(1)], path)


def a_plain_pickle(path, good):
    path.write_bytes(pickle.dumps({"w": 1}))


def a_folder(path, good):
    path.mkdir()


def missing(path, good):
    pass


BROKEN = [
    *(truncated, truncated_legacy, empty, text, unrelated_zip),
    *(unrelated_tar, a_list, a_plain_pickle, a_folder, missing),
]


@pytest.mark.parametrize("write", BROKEN)
def test_what_is_no_checkpoint_gets_one_line(write, good, tmp_path):
    path = tmp_path / "broken.pth"
    write(path, good)
    for load in (load_checkpoint_file, lambda file: load_checkpoint(Net(), str(file))):
        with pytest.raises(CheckpointError, match=r"broken\.pth") as caught:
            load(path)
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 350


ODD = {
    "none": (dict(state_dict=None), "its state_dict is a NoneType"),
    "text": (dict(state_dict="weights"), "its state_dict is a str"),
    "list": (dict(state_dict=[torch.ones(1)]), "its state_dict is a list"),
    "empty": (dict(state_dict={}), "its state_dict is empty"),
    "nothing": ({}, "it is empty"),
    "numbers": (dict(state_dict={0: torch.ones(1)}), "one is 0"),
    "numbers alone": ({0: torch.ones(1)}, "one is 0"),
    "no tensors": (dict(state_dict={"backbone.0.weight": "x"}), "'backbone.0.weight' is a str"),
    "shapes": (dict(state_dict={"backbone.0.weight": (3, 2)}), "is a tuple"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_checkpoint_without_weights_gets_one_line(name, tmp_path):
    content, reason = ODD[name]
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    for load in (
        lambda: load_checkpoint(Net(), str(path)),
        Net(init_cfg=dict(type="Pretrained", checkpoint=str(path))).init_weights,
    ):
        with pytest.raises(CheckpointError, match=r"odd\.pth") as caught:
            load()
        assert reason in str(caught.value) and len(str(caught.value).splitlines()) == 1


# --- no network


def test_weights_that_cannot_be_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = "https://weights.invalid/net.pth"
    with pytest.raises(PretrainedUnavailableError) as caught:
        Net(init_cfg=dict(type="Pretrained", checkpoint=url)).init_weights()
    message = str(caught.value)
    assert url in message and "--no-pretrained" in message and str(tmp_path) in message
    assert len(message.splitlines()) == 1
    assert isinstance(caught.value, CheckpointError)


def test_a_fresh_process_reads_a_history_buffer(tmp_path):
    path = tmp_path / "history.pth"
    torch.save({"loss": HistoryBuffer([1.0, 3.0], [1, 1])}, path)
    code = (
        "import attn_mm; from attn_mm.compat.checkpoints import load_checkpoint_file as load; "
        f"print(load({str(path)!r})['loss'].statistics('max'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "3.0", done.stderr
