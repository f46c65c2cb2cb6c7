"""``mmengine.load`` runs no code from annotations, and reads what it read before."""

import io
import os
import pickle
from types import ModuleType

import mmengine
import numpy as np
import pytest
import yaml
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from attn_mm.compat import file_handlers, object_arrays
from attn_mm.datasets.checks.guard import open_test_set
from attn_mm.errors import UnreadableFile, UnsafeFile, UserError


class Run:
    """Pickles as a call of ``os.system``."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "ran"


@pytest.fixture
def evil(tmp_path, marker):
    """A pickle, a YAML file and two NumPy files that make ``marker`` where they are run."""
    command = f"touch {marker}"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"a": Run(command)}))
    (tmp_path / "evil.yaml").write_text(f"!!python/object/apply:os.system ['{command}']\n")
    objects = np.array([Run(command)], dtype=object)
    np.save(tmp_path / "evil.npy", objects)
    np.savez(tmp_path / "evil.npz", a=objects)
    return tmp_path


def test_nothing_runs(evil, marker):
    for name in ("evil.pkl", "evil.yaml"):
        path, ending = evil / name, name.rpartition(".")[2]
        read = path.read_bytes if ending == "pkl" else path.read_text
        opened = io.BytesIO if ending == "pkl" else io.StringIO
        for source, options in ((path, {}), (str(path), {}), (opened(read()), dict(file_format=ending))):
            with pytest.raises(UnsafeFile, match=r"(system)") as caught:
                mmengine.load(source, **options)
            assert len(str(caught.value).splitlines()) == 1
    assert not marker.exists()
    yaml.load((evil / "evil.yaml").read_text(), Loader=yaml.UnsafeLoader)  # the payload is live
    assert marker.exists()


@pytest.mark.parametrize("ending", ["pkl", "yaml"])
def test_a_data_set_names_the_file_that_it_refuses(evil, marker, ending):
    DATASETS.register_module(name="PlainSet", module=BaseDataset, force=True)
    dataset = dict(type="PlainSet", ann_file=str(evil / f"evil.{ending}"))
    cfg = Config(dict(default_scope="mmengine", test_dataloader=dict(dataset=dataset)))
    with pytest.raises(UserError, match=rf"evil\.{ending}: refused"):
        open_test_set(cfg)
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        "a: &a [*a]",
        "a: [1, 2",
        "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}1]\n" for i in range(1, 12)),
    ],
)
def test_broken_yaml_gets_one_line(tmp_path, text):
    path = tmp_path / "broken.yml"
    path.write_text(text.replace("*a0,", ""))
    with pytest.raises(UnreadableFile) as caught:
        mmengine.load(path)
    assert len(str(caught.value).splitlines()) == 1


def test_yaml_of_plain_data_loads(tmp_path):
    content = dict(a=[1, 2.5, "x", None, True], b=dict(c="2020-01-01"))
    path = tmp_path / "plain.yaml"
    mmengine.dump(content, path)
    assert mmengine.load(path) == content


def test_numpy_files_with_objects(evil, marker):
    for name in ("evil.npy", "evil.npz", "evil.pkl"):
        with pytest.raises(UnsafeFile, match="system"):
            object_arrays.load(evil / name)
    assert not marker.exists()
    np.load(evil / "evil.npy", allow_pickle=True)  # the payload is live
    assert marker.exists()


def test_numpy_files_load_as_before(tmp_path):
    arrays = dict(
        numbers=np.arange(6.0).reshape(2, 3).T,
        objects=np.array([{"S1": [1, 2]}, None], dtype=object),
        single=np.array({"S1": np.ones(2)}, dtype=object),
    )
    np.savez(tmp_path / "a.npz", **arrays)
    loaded = object_arrays.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(loaded["numbers"], arrays["numbers"])
    assert loaded["objects"].tolist() == [{"S1": [1, 2]}, None]
    assert loaded["single"].item()["S1"].tolist() == [1, 1]
    np.save(tmp_path / "a.npy", arrays["numbers"])
    np.testing.assert_array_equal(object_arrays.load(tmp_path / "a.npy"), arrays["numbers"])
    (tmp_path / "torn.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    with pytest.raises(UnreadableFile, match=r"torn\.npz"):
        object_arrays.load(tmp_path / "torn.npz")


def test_an_archive_of_zeros_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "zeros.npz", a=np.zeros(9 * 10**6))
    with pytest.raises(UnsafeFile, match="grows from"):
        object_arrays.load(tmp_path / "zeros.npz")


def test_modules_that_read_by_themselves(evil, marker):
    module = ModuleType("framework")
    exec("import numpy as np, pickle\narrays = lambda p: np.load(p, allow_pickle=True)", module.__dict__)
    exec("objects = lambda p: pickle.load(open(p, 'rb'))\nones = lambda: np.ones(2)", module.__dict__)
    object_arrays._replace_numpy(module)
    file_handlers._replace_pickle(module)
    for read, name in ((module.arrays, "evil.npz"), (module.objects, "evil.pkl")):
        with pytest.raises(UnsafeFile):
            read(evil / name)
    assert module.ones().tolist() == [1, 1] and not marker.exists()
