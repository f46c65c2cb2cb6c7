"""The benchmark of families on one small network: what it keeps, and what it makes of it."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torchvision")


@pytest.fixture
def families(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo))
    from benchmarks import families

    return families


@pytest.mark.whole
def test_measures_reports_and_goes_on(families, tmp_path, capsys, monkeypatch):
    flags = ["--quick", "--work-dir", str(tmp_path)]
    families.main(flags)
    record = json.loads((tmp_path / "families.json").read_text())
    (case,) = record["cases"].values()
    assert set(case["seconds"]) == {"plain", *families.GRAFTS} and not case["refused"]
    assert all(len(times) == 2 for times in case["seconds"].values())
    for kind in ("params", "macs"):
        assert all(case[kind][graft] > case[kind]["plain"] for graft in families.GRAFTS if graft != "AWConv")
    assert "shufflenet" in capsys.readouterr().out
    monkeypatch.setattr(families, "measure", None)
    families.main(flags)


def test_ratios_are_of_one_turn_and_refusals_have_none(families):
    record = dict(
        refused=dict(TDAF="no stages"),
        params=dict(plain=10, TD=12),
        macs=dict(plain=10, TD=15),
        seconds=dict(plain=[1.0, 2.0, 4.0], TD=[2.0, 4.0, 12.0]),
    )
    assert families._cell(record, "TD") == "1.20 / 1.50 / 2.00"
    assert families._cell(record, "TDAF") == "-"
