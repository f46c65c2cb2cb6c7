"""The comparison of training curves: what a work dir holds is what is drawn and kept."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from attn_mm.errors import UserError
from attn_mm.run.plot_curves import main, names_of
from attn_mm.utils.extras import require

pytest.importorskip("matplotlib")


def work_dir(root, name, losses, figures, stamp="20260101_000000"):
    folder = root / name / stamp / "vis_data"
    folder.mkdir(parents=True)
    lines = []
    for epoch, loss in enumerate(losses, 1):
        lines.append(
            dict(loss=loss, loss_cls=loss / 2, time=0.1, epoch=epoch, iter=7 * epoch, step=7 * epoch)
        )
        if epoch in figures:
            lines.append({**figures[epoch], "time": 0.1, "step": epoch})
    (folder / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root / name


@pytest.fixture
def runs(tmp_path):
    plain = work_dir(tmp_path, "plain", [3.0, 2.0, 1.5], {3: {"accuracy/top1": 40.0, "accuracy/top5": 80.0}})
    tdaf = work_dir(tmp_path, "tdaf", [2.5, 1.5], {1: {"accuracy/top1": 30.0}, 2: {"accuracy/top1": 45.0}})
    return plain, tdaf


def test_draws_and_keeps_the_curves(runs, tmp_path, capsys):
    main([*map(str, runs), "--out", str(tmp_path / "out")])
    record = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert (record["unit"], record["loss"], record["figure"]) == ("epoch", "loss", "accuracy/top1")
    assert [run["name"] for run in record["runs"]] == ["plain", "tdaf"]
    assert record["runs"][0]["loss"] == [[1, 3.0], [2, 2.0], [3, 1.5]]
    assert record["runs"][1]["figure"] == [[1, 30.0], [2, 45.0]]
    picture = cv2.imread(str(tmp_path / "out" / "curves.png"))
    assert "<svg" in (tmp_path / "out" / "curves.svg").read_text()
    # The first two colours of the lines, blue and orange.
    for colour in ((180, 119, 31), (14, 127, 255)):
        assert (abs(picture.astype(int) - colour).max(2) < 12).sum() > 50
    assert "tdaf: loss 1.5, accuracy/top1 45" in capsys.readouterr().out


def test_a_file_names_and_other_keys(runs, tmp_path):
    file = runs[0] / "20260101_000000" / "vis_data" / "scalars.json"
    flags = ["--names", "ours", "--loss", "loss_cls", "--figure", "accuracy/top5"]
    main([str(file), *flags, "--out", str(tmp_path / "out")])
    (run,) = json.loads((tmp_path / "out" / "curves.json").read_text())["runs"]
    assert run["name"] == "ours" and run["loss"][0] == [1, 1.5] and run["figure"] == [[3, 80.0]]


def test_a_name_that_the_locale_lacks(runs, tmp_path):
    main([str(runs[0]), "--names", "l\udcc3\udcb6g", "--out", str(tmp_path / "out")])
    assert json.loads((tmp_path / "out" / "curves.json").read_text())["runs"][0]["name"] == "l\u00f6g"


def test_a_run_that_was_never_validated(tmp_path):
    main([str(work_dir(tmp_path, "short", [2.0, 1.0], {})), "--out", str(tmp_path / "out")])
    record = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert record["figure"] is None and record["runs"][0]["figure"] == []


def test_a_training_that_diverged(tmp_path, capsys):
    nan, inf = float("nan"), float("inf")
    figures = {1: {"accuracy/top1": 30.0}, 3: {"accuracy/top1": nan}}
    runs = [
        work_dir(tmp_path, "diverged", [3.0, 2.0, inf, nan], figures),
        work_dir(tmp_path, "lost", [nan, nan], {1: {"accuracy/top1": 10.0}}),
    ]
    main([*map(str, runs), "--out", str(tmp_path / "out")])

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = (tmp_path / "out" / "curves.json").read_text()
    diverged, lost = json.loads(text, parse_constant=refuse)["runs"]
    assert diverged["loss"] == [[1, 3.0], [2, 2.0], [3, None], [4, None]]
    assert diverged["figure"] == [[1, 30.0], [3, None]]
    assert lost["loss"] == [[1, None], [2, None]]
    said = capsys.readouterr().out
    assert "diverged: loss not finite from epoch 3, accuracy/top1 not finite from epoch 3\n" in said
    assert "lost: loss not finite from epoch 1, accuracy/top1 10\n" in said


def test_a_log_outside_a_work_dir_has_its_own_name(runs, tmp_path, monkeypatch):
    text = (runs[0] / "20260101_000000" / "vis_data" / "scalars.json").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours.json").write_text(text)
    main(["ours.json", str(runs[1]), "--out", str(tmp_path / "out")])
    record = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert [run["name"] for run in record["runs"]] == ["ours", "tdaf"]
    assert names_of([Path("/ours.json")], None) == ["ours"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--names", "one"], "--names has 1 names for 2 runs"),
        (["--names", "a", "a"], "two runs have the same name"),
        (["--loss", "loss_bbox"], "--loss loss_bbox is not in {plain}; it has loss, loss_cls"),
        (
            ["--figure", "accuracy/top5"],
            "--figure accuracy/top5 is not in all logs; in common: accuracy/top1",
        ),
    ],
)
def test_mistakes(runs, tmp_path, capsys, flags, said):
    assert said.format(plain=runs[0]) in fails(
        capsys, *map(str, runs), *flags, "--out", str(tmp_path / "out")
    )
    assert not (tmp_path / "out").exists()


def test_what_is_no_log(tmp_path, capsys):
    assert "contains no */vis_data/scalars.json" in fails(capsys, str(tmp_path))
    for text, said in (
        ("{", "a line isn't JSON"),
        ("[1]\n", "a line's step is no whole number"),
        ("", "no loss is logged"),
        ('{"loss": 1, "step": "one"}', "a line's step is no whole number"),
        ('{"loss": 1, "step": null}', "a line's step is no whole number"),
        ('{"loss": 1, "step": 2, "epoch": "one"}', "an epoch is no whole number"),
        ('{"loss": 1, "step": 2, "epoch": 1e308}', "an epoch is no whole number"),
        ('{"loss": 1, "step": 1e-300}', "a line's step is no whole number"),
        ('{"loss": 1, "step": 2, "epoch": 1}\n{"loss": 1, "step": 2, "epoch": 2}', "its steps do not grow"),
    ):
        (tmp_path / "scalars.json").write_text(text)
        assert said in fails(capsys, str(tmp_path / "scalars.json"), "--names", "x")
    assert "can't be read" in fails(capsys, str(tmp_path / "missing.json"), "--names", "x")
    assert "can't be read" in fails(capsys, "x" * 5000)
    assert "isn't JSON" in fails(capsys, "a\0b")


def fails(capsys, *flags) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(flags))
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_missing_library_is_named():
    said = r"no_such_library is not installed: pip install 'attn-mm\[explore\]'"
    with pytest.raises(UserError, match=said):
        require("no_such_library.part")
