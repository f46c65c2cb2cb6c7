"""The tables of docs are those of the measurements."""

from __future__ import annotations

import json

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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- table: papers missing -->\n<!-- /table -->", "missing.json can't be read (No such file"),
        ("<!-- table: papers empty -->\n<!-- /table -->", "empty.json has no cases of a benchmark"),
        ("<!-- table: papers -->\n<!-- /table -->", "<!-- table: papers --> names no table"),
        ("<!-- table: inference nchw one -->\n<!-- /table -->", "names no table"),
        ("<!-- table: sideways nchw one one -->\n<!-- /table -->", "no case of sideways in nchw"),
        ("<!-- table: cifar10 one -->\n<!-- /table -->", "doesn't fit its file: KeyError('net')"),
        (
            "<!-- table: papers one -->\nno end\n<!-- table: papers one -->\n<!-- /table -->",
            "needs a partner",
        ),
        ("<!-- table: papers one -->\n", "<!-- table: papers one --> needs a partner"),
        ("<!--table: papers one-->\n<!-- /table -->", "<!--table: papers one--> needs a partner"),
        ("<!-- /table -->\n", "<!-- /table --> needs a partner"),
    ],
)
def test_a_malformed_page_is_one_line(pages, tmp_path, monkeypatch, capsys, text, said):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    monkeypatch.setattr(pages, "PAGES", ["page.md"])
    case = dict(mode="training", layout="nchw", top1=1.0)
    (tmp_path / "one.json").write_text(json.dumps(dict(cases=dict(a=case))))
    (tmp_path / "empty.json").write_text("[]")
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(SystemExit) as stopped:
        pages.main([])
    found = capsys.readouterr().err
    assert stopped.value.code == 2 and page.read_text() == text
    assert found.startswith("error: page.md: ") and said in found and len(found) < 200
