"""The tables of docs/speed.md are those of the measurements."""

from __future__ import annotations

import pytest


@pytest.fixture
def page(importable):
    pytest.importorskip("mmpretrain")
    from benchmarks import page

    return page


def test_they_are_up_to_date(page, capsys):
    page.main(["--check"])
    assert not capsys.readouterr().out
    assert page.PAGE.read_text().count("<!-- speed: ") == page.PAGE.read_text().count("<!-- /speed -->") == 8


def test_a_stale_table_is_named_and_written(page, tmp_path, monkeypatch, capsys):
    stale = tmp_path / "docs/speed.md"
    stale.parent.mkdir()
    monkeypatch.setattr(page, "ROOT", tmp_path)
    monkeypatch.setattr(page, "PAGE", stale)
    times = {"plain": [1.0, 2.0, 4.0], "ours": [2.0, 4.0, 8.0], "timm": [1.5, 3.0, 6.0]}
    memory = {"plain": 100, "ours": 110, "timm": 125}
    case = dict(module="SE", backbone="r50", mode="training", layout="nchw", batch=8, dtype="fp32")
    case.update(seconds=times, memory=memory)
    other = dict(case, seconds=dict(times, ours=[3.0, 6.0, 12.0]))
    monkeypatch.setattr(
        page, "cases", dict(one={"a": case, "b": dict(case, mode="inference")}, two={"a": other}).get
    )
    stale.write_text("before\n<!-- speed: training nchw one two -->\nold\n<!-- /speed -->\nafter\n")
    with pytest.raises(SystemExit):
        page.main(["--check"])
    assert "docs/speed.md is out of date" in capsys.readouterr().out and "old" in stale.read_text()
    page.main([])
    lines = stale.read_text().splitlines()
    cells = [cell.strip() for cell in lines[5].split("|")[1:-1]]
    assert cells == [
        *("SE, r50", "8, fp32", "2.00 (2.00-2.00)", "3.00 (3.00-3.00)", "1.50 (1.50-1.50)", "1.10", "1.25")
    ]
    assert lines[0] == "before" and lines[-1] == "after" and len(lines) == 9
    page.main(["--check"])
