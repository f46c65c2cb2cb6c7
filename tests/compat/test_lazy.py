"""Modules served where they are missing, and changed when they are imported."""

import importlib
import importlib.util
import sys

import pytest

from attn_mm.compat import lazy


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "lazy_sample"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "present.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "lazy_sample"
    for name in [n for n in sys.modules if n.startswith("lazy_sample")]:
        del sys.modules[name]
    for asked in (lazy._finder.fillers, lazy._watcher.patches):
        for name in [n for n in asked if n.startswith("lazy_sample")]:
            del asked[name]


def test_serves_what_is_missing_at_its_first_import(package):
    filled = []
    lazy.serve(f"{package}.missing", lambda module: filled.append(setattr(module, "value", 2)))
    assert not filled
    assert importlib.import_module(f"{package}.missing").value == 2
    importlib.import_module(f"{package}.missing")
    assert len(filled) == 1


def test_never_hides_what_is_there(package):
    lazy.serve(f"{package}.present", lambda module: setattr(module, "value", 2))
    assert importlib.import_module(f"{package}.present").value == 1


def test_changes_a_module_right_after_its_import(package):
    lazy.after_import(f"{package}.present", lambda module: setattr(module, "value", module.value + 10))
    assert f"{package}.present" not in sys.modules
    assert importlib.import_module(f"{package}.present").value == 11
    assert importlib.reload(sys.modules[f"{package}.present"]).value == 11


def test_a_mere_search_does_not_lose_the_change(package):
    lazy.after_import(f"{package}.present", lambda module: setattr(module, "value", 13))
    assert importlib.util.find_spec(f"{package}.present") is not None
    assert importlib.import_module(f"{package}.present").value == 13


def test_changes_an_imported_module_at_once(package):
    module = importlib.import_module(f"{package}.present")
    lazy.after_import(module.__name__, lambda module: setattr(module, "value", 12))
    assert module.value == 12


def test_an_absent_module_is_still_absent(package):
    lazy.after_import(f"{package}.absent", lambda module: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{package}.absent")
