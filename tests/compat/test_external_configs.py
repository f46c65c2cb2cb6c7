"""Bases of the frameworks are found by their path."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config, utils

import attn_mm  # noqa: F401
from attn_mm.errors import UserError
from attn_mm.utils.config import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
BASES = sorted(
    {name for path in CONFIGS.rglob("*.py") for name in re.findall(r'"(mm\w+::[^"]+)"', path.read_text())}
)


def test_bases_are_where_mmengine_finds_them_without_its_metafiles(monkeypatch):
    pytest.importorskip("mmaction")
    pytest.importorskip("mmdet")
    assert len(BASES) > 10
    plain = Config._get_cfg_path.__wrapped__
    expected = {
        scope: plain(next(b for b in BASES if b.startswith(scope)), "") for scope in ("mmaction", "mmdet")
    }
    monkeypatch.setattr(utils, "_get_cfg_metainfo", None)
    found = {name: Config._get_cfg_path(name, "") for name in BASES}
    assert all(
        Path(path).is_file() and name.startswith(f"{scope}::") for name, (path, scope) in found.items()
    )
    for scope, place in expected.items():
        assert found[next(b for b in BASES if b.startswith(scope))] == place


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("'attn-mm::tam/a.py'", "'attn-mm::tam/a.py' is no config; did you mean attn_mm::tam/a.py?"),
        ("'attn_mm:tam/a.py'", "did you mean attn_mm::tam/a.py?"),
        ("'mmdte::a.py'", "did you mean mmdet::a.py?"),
        ("'nothing::at/all.py'", "there is no package 'nothing'; attn_mm's configs are attn_mm::..."),
        ("'mine.py'", "mine.py inherits itself"),
        ("'other.py'", "mine.py inherits itself"),
        ("5", "must be the path of a config, or a list of paths; got 5"),
        ("['attn_mm::fcos_tdaf_r50.py', None]", "must be the path of a config, or a list of paths; got None"),
        ("''", "must be the path of a config, or a list of paths; got ''"),
    ],
)
def test_what_is_no_base(tmp_path, base, said):
    (tmp_path / "other.py").write_text("_base_ = 'mine.py'\n")
    path = tmp_path / "mine.py"
    path.write_text(f"_base_ = {base}\n")
    with pytest.raises(UserError) as error:
        load_config(str(path))
    assert str(error.value).startswith(f"config {path} can't be read: ") and said in str(error.value)


def test_bases_that_are_missing_are_left_to_mmengine():
    pytest.importorskip("mmdet")
    with pytest.raises(FileNotFoundError):
        Config._get_cfg_path("mmdet::at/all.py", "")


def test_other_bases_are_beside_their_file():
    assert Config._get_cfg_path("b.py", "x/a.py") == ("x/b.py", None)


def inherited(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return Config.fromfile(path)


@pytest.mark.parametrize("base", ["tam/r18_tam_300e_cifar100.py", "configs/tam/r18_tam_300e_cifar100.py"])
def test_a_packaged_config_is_a_base(tmp_path, base):
    cfg = inherited(tmp_path, f"_base_ = 'attn_mm::{base}'\nmodel = dict(head=dict(num_classes=3))\n")
    plain = Config.fromfile(CONFIGS / "tam/r18_tam_300e_cifar100.py")
    assert plain.model.head.num_classes == 100 and cfg.model.head.num_classes == 3
    plain.model.head.num_classes = 3
    # No dict of it has a scope of its own: attn_mm doesn't know mmpretrain's types.
    assert cfg.to_dict() == plain.to_dict()


def test_a_packaged_config_is_read_by_read_base(tmp_path):
    cfg = inherited(
        tmp_path,
        "from mmengine.config import read_base\n"
        "with read_base():\n    from attn_mm.configs.tam.r18_tam_300e_cifar100 import *\n"
        "model.head.num_classes = 3\n",
    )
    assert (cfg.model.head.num_classes, cfg.model.type) == (3, "ImageClassifier")
    assert cfg.train_cfg.max_epochs == 300


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("tam/r18_tam_300e_cifar100", "it is configs/tam/r18_tam_300e_cifar100.py"),
        ("classification/tam_r18_tam_cifar10.py", "is now configs/tam/r18_tam_300e_cifar10.py"),
        ("../../etc/passwd", "does not exist"),
    ],
)
def test_a_packaged_base_of_another_name(tmp_path, base, said):
    mine = tmp_path / "mine.py"
    mine.write_text(f"_base_ = 'attn_mm::{base}'\n")
    with pytest.raises(UserError, match=said) as error:
        load_config(str(mine))
    assert "UserError" not in str(error.value)
