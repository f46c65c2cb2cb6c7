"""Configs with ``read_base`` and configs with ``_base_`` inherit each other."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError

import attn_mm  # noqa: F401

READ = "from mmengine.config import read_base\nwith read_base():\n    from {} import *\n"


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture
def family(tmp_path):
    """A grandparent and a parent with ``_base_``, and a child with ``read_base``."""
    write(tmp_path, "old.py", "model = dict(type='Net', head=dict(type='Head', channels=8))\nepochs = 4\n")
    write(tmp_path, "middle.py", "_base_ = 'old.py'\nmodel = dict(head=dict(channels=16))\n")
    return write(tmp_path, "new.py", READ.format(".middle") + "model.head.classes = epochs\n")


def test_what_a_base_inherits_is_there(family, tmp_path):
    cfg = Config.fromfile(family)
    assert cfg.model == dict(type="Net", head=dict(type="Head", channels=16, classes=4))
    cfg.dump(tmp_path / "dumped.py")
    assert Config.fromfile(tmp_path / "dumped.py").model == cfg.model


def test_mmengine_alone_refuses_it(family, monkeypatch):
    plain = Config._parse_lazy_import.__wrapped__
    monkeypatch.setattr(Config, "_parse_lazy_import", staticmethod(plain))
    with pytest.raises(ConfigParsingError, match="must match"):
        Config.fromfile(family)


def test_a_new_base_is_mmengines_matter(tmp_path):
    write(tmp_path, "old.py", "model = dict(type='Net')\n")
    new = write(tmp_path, "new.py", READ.format(".old") + "model.update(channels=8)\n")
    assert Config.fromfile(new).model == dict(type="Net", channels=8)
