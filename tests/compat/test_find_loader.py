"""A Python without ``pkgutil.find_loader`` gets it; others keep their own."""

from __future__ import annotations

import pkgutil
from importlib.machinery import SourceFileLoader

import pytest
from mmengine.utils.dl_utils.misc import mmcv_full_available

from attn_mm.compat import find_loader


@pytest.fixture
def without_find_loader(monkeypatch):
    """Hide the function, as Python 3.14 does, and put it back after the test."""
    monkeypatch.setattr(pkgutil, "find_loader", None, raising=False)
    del pkgutil.find_loader


def test_mmengine_and_mmcv_find_their_operations(without_find_loader):
    ext_loader = pytest.importorskip("mmcv.utils.ext_loader")
    with pytest.raises(AttributeError, match="find_loader"):
        mmcv_full_available()
    find_loader.patch()
    assert mmcv_full_available() and ext_loader.check_ops_exist()


def test_it_means_what_it_did(without_find_loader):
    find_loader.patch()
    assert isinstance(pkgutil.find_loader("attn_mm"), SourceFileLoader)
    assert pkgutil.find_loader("attn_mm.nothing") is None


def test_pythons_own_stays(monkeypatch):
    monkeypatch.setattr(pkgutil, "find_loader", print, raising=False)
    find_loader.patch()
    assert pkgutil.find_loader is print
