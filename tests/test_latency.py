"""The benchmark of latency on a tiny network: what it keeps, and what it makes of it."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("mmpretrain")


@pytest.fixture
def latency(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo))
    from benchmarks import latency

    return latency


def test_measures_reports_and_goes_on(latency, tmp_path, capsys, monkeypatch):
    flags = ["--quick", "--modules", "TD", "--threads", "1", "--work-dir", str(tmp_path)]
    latency.main([*flags, "--mode", "training"])
    record = json.loads((tmp_path / "latency.json").read_text())
    (first,) = record["cases"].values()
    assert {name: len(times) for name, times in first["seconds"].items()} == dict(plain=3, ours=3, naive=3)
    # Weights and their gradients at least.
    assert all(first["memory"][name] > 8 * first["params"][name] for name in first["memory"])
    assert "TD" in capsys.readouterr().out and (tmp_path / "latency.png").stat().st_size > 0

    measured = []
    monkeypatch.setattr(latency, "measure", lambda case, args: measured.append(case.mode) or first)
    latency.main(flags)
    assert measured == ["inference"]


def test_ratios_are_of_one_turn(latency):
    record = dict(seconds=dict(plain=[1.0, 2.0, 4.0], ours=[2.0, 4.0, 8.0]))
    assert latency.ratio(record, "ours") == dict(median=2, q1=2, q3=2)


def test_published_ratios(latency):
    # TD's table 1: 195 and 570 frames per second against TD's 160 and 493, 29.5 GB against 31.9.
    rows = {row.mode: row for row in latency.PUBLISHED if (row.module, row.backbone) == ("TD", "r50")}
    assert rows["training"].time == pytest.approx(195 / 160)
    assert rows["inference"].time == pytest.approx(570 / 493)
    assert rows["training"].memory == pytest.approx(31.9 / 29.5)
    assert rows["inference"].memory == pytest.approx(16.2 / 16.1)


def test_other_settings_need_another_folder(latency, tmp_path, capsys):
    (tmp_path / "latency.json").write_text(json.dumps(dict(about=dict(threads=64), cases={})))
    with pytest.raises(SystemExit) as stopped:
        latency.main(["--quick", "--threads", "1", "--work-dir", str(tmp_path)])
    assert stopped.value.code == 2
    assert "threads 64, now 1" in capsys.readouterr().err


def test_a_foreign_file_is_kept(latency, tmp_path, capsys):
    (tmp_path / "latency.json").write_text("[1]")
    with pytest.raises(SystemExit):
        latency.main(["--quick", "--threads", "1", "--work-dir", str(tmp_path)])
    assert "no record of this benchmark" in capsys.readouterr().err
    assert (tmp_path / "latency.json").read_text() == "[1]"
