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
    monkeypatch.setattr(latency, "measure", lambda case, **_: measured.append(case.mode) or first)
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
    assert "not a record of this benchmark" in capsys.readouterr().err
    assert (tmp_path / "latency.json").read_text() == "[1]"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--repeats", "1"], "--repeats must be at least 2"),
        (["--quick", "--papers"], "give either --quick or --papers"),
        (["--modules", "XY"], "invalid choice: 'XY'"),
    ],
)
def test_mistakes(latency, tmp_path, capsys, flags, said):
    with pytest.raises(SystemExit) as stopped:
        latency.main([*flags, "--work-dir", str(tmp_path)])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_an_interruption_keeps_what_is_measured(latency, tmp_path, capsys, monkeypatch):
    def measure(case, **_):
        if case.mode == "training":
            raise KeyboardInterrupt
        return dict(
            case._asdict(),
            params=dict(plain=10, ours=11),
            seconds=dict(plain=[1.0, 1.0], ours=[1.5, 1.5]),
            memory=dict(plain=100, ours=110),
        )

    monkeypatch.setattr(latency, "measure", measure)
    with pytest.raises(SystemExit) as stopped:
        latency.main(["--quick", "--modules", "SE", "--threads", "1", "--work-dir", str(tmp_path)])
    assert stopped.value.code == 130
    assert list(json.loads((tmp_path / "latency.json").read_text())["cases"]) == [
        "SE tiny inference nchw fp32 2"
    ]
    assert "1.500 (1.500-1.500)" in (tmp_path / "latency.md").read_text()
    assert "repeat the command to continue" in capsys.readouterr().err


def test_what_the_papers_publish_stands_beside_what_is_measured(latency):
    record = dict(
        module="TD",
        backbone="r50",
        mode="inference",
        layout="nchw",
        dtype="fp32",
        batch=8,
        params=dict(plain=10, ours=11),
        seconds=dict(plain=[1.0, 1.0], ours=[1.04, 1.04]),
        memory=dict(plain=100, ours=101),
    )
    about = dict(repeats=2, device="a CPU", torch="2", threads=1, clock="wall", graphs=False)
    (row,) = [line for line in latency.papers_report([record], about).splitlines() if "TD, table 1" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[-4:] == ["1.16", "1.040 (1.040-1.040)", "1.01", "1.01"]


def test_timms_layers_take_turns_with_ours(latency, tmp_path, capsys):
    pytest.importorskip("timm")
    flags = ["--quick", "--peers", "--modules", "ECA", "--mode", "inference", "--threads", "1"]
    latency.main([*flags, "--work-dir", str(tmp_path)])
    (case,) = json.loads((tmp_path / "latency.json").read_text())["cases"].values()
    # ECA's kernels have the same size in both.
    assert len(case["seconds"]["timm"]) == 3 and case["params"]["timm"] == case["params"]["ours"]
    header = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| module"))
    assert "timm" in header and "naive" in header and "folded" not in header
    for more, said in ((["--papers"], "either --peers or --papers"), (["--modules", "TD"], "timm has no TD")):
        with pytest.raises(SystemExit):
            latency.main(["--peers", *more, "--work-dir", str(tmp_path)])
        assert said in capsys.readouterr().err
