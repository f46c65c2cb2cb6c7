"""The tables of docs are those of the measurements."""

from __future__ import annotations

import pytest


@pytest.fixture
def pages(importable):
    pytest.importorskip("mmpretrain")
    from benchmarks import pages

    return pages


def test_they_are_up_to_date(pages, capsys):
    pages.main(["--check"])
    assert not capsys.readouterr().out
    for name in pages.PAGES:
        text = (pages.ROOT / name).read_text()
        found = len(pages.BLOCK.findall(text))
        assert found == text.count("<!-- table: ") == text.count("<!-- /table -->") > 0


def test_a_stale_table_is_named_and_written(pages, tmp_path, monkeypatch, capsys):
    stale = tmp_path / "docs/speed.md"
    stale.parent.mkdir()
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "PAGES", ["docs/speed.md"])
    times = {"plain": [1.0, 2.0, 4.0], "ours": [2.0, 4.0, 8.0], "timm": [1.5, 3.0, 6.0]}
    memory = {"plain": 100, "ours": 110, "timm": 125}
    case = dict(module="SE", backbone="r50", mode="training", layout="nchw", batch=8, dtype="fp32")
    case.update(seconds=times, memory=memory)
    other = dict(case, seconds=dict(times, ours=[3.0, 6.0, 12.0]))
    monkeypatch.setattr(
        pages, "cases", dict(one={"a": case, "b": dict(case, mode="inference")}, two={"a": other}).get
    )
    stale.write_text("before\n<!-- table: training nchw one two -->\nold\n<!-- /table -->\nafter\n")
    with pytest.raises(SystemExit):
        pages.main(["--check"])
    assert "docs/speed.md is out of date" in capsys.readouterr().out and "old" in stale.read_text()
    pages.main([])
    lines = stale.read_text().splitlines()
    cells = [cell.strip() for cell in lines[5].split("|")[1:-1]]
    assert cells == [
        *("SE, r50", "8, fp32", "2.00 (2.00-2.00)", "3.00 (3.00-3.00)", "1.50 (1.50-1.50)", "1.10", "1.25")
    ]
    assert lines[0] == "before" and lines[-1] == "after" and len(lines) == 9
    pages.main(["--check"])
