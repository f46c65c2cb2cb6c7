"""The tables of the READMEs and of the docs are those of the metafiles."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture(scope="module")
def tables(repo):
    spec = importlib.util.spec_from_file_location("tables", repo / "docs/tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_they_are_up_to_date(tables, capsys):
    with pytest.raises(SystemExit) as end:
        tables.main(["--check"])
    assert end.value.code == 0, f"{capsys.readouterr().out}python docs/tables.py writes them anew"


def test_every_readme_of_a_folder_has_its_table(tables, repo):
    for path in repo.glob("configs/*/metafile.yml"):
        assert f"<!-- metafile: {path.parent.name} -->" in path.with_name("README.md").read_text()


def test_a_stale_table_is_named_and_written(tables, repo, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("# Page\n<!-- metafile: tdaf, table 4, COCO -->\nold\n<!-- /metafile -->\nend\n")
    monkeypatch.setattr(tables, "pages", lambda: [page])
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as end:
        tables.main(["--check"])
    assert end.value.code == 1 and capsys.readouterr().out == "page.md is out of date\n"
    with pytest.raises(SystemExit):
        tables.main([])
    text = page.read_text()
    assert "old" not in text and text.endswith("|\n\n<!-- /metafile -->\nend\n")
    assert "| config | description | AP | AP small | AP medium | AP large | parameters | published |" in text
    row = "| [`fcos_tdaf_r50`](configs/fcos_tdaf_r50.py) | R50; 3 flows, ANAR-3 | 39.6 | 23.9 | 43.4 | 51.1 |"
    assert row in text
