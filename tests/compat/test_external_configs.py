"""Bases of the frameworks are found by their path."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config, utils

import attn_mm  # noqa: F401

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


def test_bases_that_are_missing_are_left_to_mmengine():
    with pytest.raises(AssertionError, match="does not support to load nothing"):
        Config._get_cfg_path("nothing::at/all.py", "")
    pytest.importorskip("mmdet")
    with pytest.raises(FileNotFoundError):
        Config._get_cfg_path("mmdet::at/all.py", "")


def test_other_bases_are_beside_their_file():
    assert Config._get_cfg_path("b.py", "x/a.py") == ("x/b.py", None)
