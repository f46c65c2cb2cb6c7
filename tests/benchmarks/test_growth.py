"""The benchmark of growth: exponents, where forms change, and a run of few points that goes on."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def growth(importable):
    from benchmarks import growth

    return growth


def record(axis, point, scale, forms):
    names = ("plain", "TD", "AW", "TAM", "TDAF")
    return dict(
        axis=axis,
        point=point,
        mode="training",
        threads=1,
        seconds={name: [scale * (1 + i), 2 * scale * (1 + i)] for i, name in enumerate(names)},
        memory={name: int(1000 * point**2) * (1 + i) for i, name in enumerate(names)},
        forms={name: forms if name == "AW" else {} for name in names},
    )


@pytest.fixture
def records():
    forms = [{"grouped": 2}, {"grouped": 2}, {"grouped": 1, "shift": 1}]
    return [record("batch", point, 0.5 * point**1.5, used) for point, used in zip((1, 2, 4), forms)]


def test_exponents_and_changes(growth, records):
    lines = {line.name: line for line in growth.lines(records[::-1], "batch", "training", 1)}
    aw = lines["AW"]
    assert aw.points == [1, 2, 4] and aw.over_plain == pytest.approx([3, 3, 3])
    assert growth.exponent(aw.points, aw.seconds) == pytest.approx(1.5)
    assert growth.exponent(aw.points, aw.memory) == pytest.approx(2)
    assert growth.changes(aw.forms) == [2] and not growth.changes(lines["plain"].forms)
    table = growth.table(records)
    assert "1: 2 grouped; 4: 1 grouped, 1 shift" in table and table.count("1.50") == 5


def test_a_point_alone_has_no_exponent(growth, records):
    assert growth.table(records[:1]).count("\n") == growth.table([]).count("\n")


def test_draws(growth, records, tmp_path):
    growth.draw(records, "training", 1, tmp_path / "growth.png")
    growth.draw(records, "inference", 1, tmp_path / "none.png")
    assert {path.name for path in tmp_path.iterdir()} == {"growth.png", "growth.svg"}


def test_quick_runs_refuse_an_axis_that_they_lack(growth, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        growth.main(["--quick", "--axes", "depth", "--work-dir", str(tmp_path)])
    assert stopped.value.code == 2 and "choose one of them" in capsys.readouterr().err


def test_measures_and_goes_on(growth, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(growth, "QUICK", {"batch": growth.Axis((1, 2), side=64, depth=18)})
    flags = ["--quick", "--mode", "training", "--work-dir", str(tmp_path)]
    growth.main(flags)
    cases = json.loads((tmp_path / "growth.json").read_text())["cases"]
    assert set(cases) == {"batch 1 training 1", "batch 2 training 1"}
    for case in cases.values():
        assert all(len(times) == 2 for times in case["seconds"].values())
        assert sum(case["forms"]["AW"].values()) == sum(case["forms"]["TD"].values()) == 8
    assert "training" in capsys.readouterr().out
    monkeypatch.setattr(growth, "measure", None)
    growth.main(flags)
