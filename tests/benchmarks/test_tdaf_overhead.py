"""The benchmark of TDAF's flows on a tiny network: its counts by arithmetic, what it keeps and reports."""

from __future__ import annotations

import json

import pytest
from module_parameters import ANARS_OF_RESNET50

pytest.importorskip("mmpretrain")


@pytest.fixture
def overhead(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo))
    from benchmarks import tdaf_overhead

    return tdaf_overhead


def test_measures_reports_and_goes_on(overhead, tmp_path, capsys, monkeypatch):
    flags = ["--quick", "--threads", "1", "--work-dir", str(tmp_path)]
    overhead.main(flags)
    (case,) = json.loads((tmp_path / "tdaf_overhead.json").read_text())["cases"].values()
    assert {flows: len(times) for flows, times in case["seconds"].items()} == dict.fromkeys("1234", 3)
    # More flows cost more, and have the same parameters.
    macs = [case["counts"][flows]["conv"] for flows in "1234"]
    assert macs == sorted(set(macs))
    assert len({case["counts"][flows]["params"] for flows in "234"}) == 1
    first = capsys.readouterr().out
    monkeypatch.setattr(overhead, "measure_network", None)
    overhead.main(flags)
    assert capsys.readouterr().out == first == (tmp_path / "tdaf_overhead.md").read_text()


def test_a_resnet_50_has_what_the_paper_adds(overhead):
    plain, three = (overhead.counts("r50", flows) for flows in (1, 3))
    assert three["params"] - plain["params"] == ANARS_OF_RESNET50[3]
    assert f"{plain['conv'] / 1e9:.1f}" == overhead.PUBLISHED["r50", 1].macs


def test_a_time_stands_over_that_of_its_turn_beside_what_is_published(overhead):
    case = dict(
        network="r101",
        batch=4,
        counts={flows: dict(params=10, conv=10**9 * int(flows)) for flows in "1234"},
        seconds={"1": [1.0, 2.0, 4.0], "2": [2.0, 4.0, 8.0], "3": [3.0, 6.0, 12.0], "4": [1.0, 2.0, 4.0]},
    )
    about = dict(repeats=3, device="a CPU", torch="2", threads=1, clock="wall")
    text = overhead.report(dict(about=about, cases={"r101 4": case}))
    (row,) = [line for line in text.splitlines() if line.startswith("| r101    |     3 |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[4:] == [
        "3.00", "10.0", "+200.0 %", "1500.00", "0.035", "3.000 (3.000-3.000)", "1.13, below 1.15"
    ]  # fmt: skip
