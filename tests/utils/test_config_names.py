"""A config that has another name now is refused, and the new name is in the message."""

from __future__ import annotations

import pytest
import yaml

from attn_mm.errors import UserError
from attn_mm.utils.config import load_config
from attn_mm.utils.config_names import CONFIGS, new_name, shipped_config

RENAMED = yaml.safe_load((CONFIGS / "renamed.yml").read_text())


def test_old_names_are_gone_and_new_ones_are_there():
    assert len(RENAMED) > 300
    assert not [old for old in RENAMED if (CONFIGS / old).exists()]
    assert not [new for new in RENAMED.values() if not (CONFIGS / new).is_file()]


@pytest.mark.parametrize(
    "path",
    [
        "configs/classification/tam_r18_tam_cifar10.py",
        "classification/tam_r18_tam_cifar10.py",
        "./configs/classification/tam_r18_tam_cifar10.py",
        "/home/configs/attn_mm/configs/classification/tam_r18_tam_cifar10.py",
    ],
)
def test_the_new_name_is_in_the_message(path):
    with pytest.raises(UserError) as error:
        load_config(path)
    assert str(error.value) == f"config {path} is now configs/tam/r18_tam_300e_cifar10.py"


def test_the_new_name_of_a_base_is_in_the_message(tmp_path):
    config = tmp_path / "mine.py"
    config.write_text("_base_ = './configs/fcos_r50.py'\n")
    with pytest.raises(UserError, match=r"; it is now configs/tdaf/fcos-r50_plain_coco\.py$"):
        load_config(str(config))


def test_other_names_have_no_new_one():
    assert new_name("configs/fcos_tdaf_r50.py") is None
    assert new_name("configs") is None


@pytest.mark.parametrize(
    "path", ["configs/fcos_tdaf_r50.py", "./configs/fcos_tdaf_r50.py", "fcos_tdaf_r50.py"]
)
def test_a_shipped_config_is_found_from_anywhere(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    assert shipped_config(path) == str(CONFIGS / "fcos_tdaf_r50.py")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("configs/fcos_tdaf_r50", "does not exist: it is configs/fcos_tdaf_r50.py"),
        ("classification/tam_r18_tam_cifar10", "is now configs/tam/r18_tam_300e_cifar10.py"),
    ],
)
def test_a_name_without_its_suffix_gets_a_hint(path, said):
    with pytest.raises(UserError) as error:
        shipped_config(path)
    assert str(error.value) == f"config {path} {said}"


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_name_that_no_system_takes(name):
    with pytest.raises(UserError, match="does not exist"):
        shipped_config(name)
