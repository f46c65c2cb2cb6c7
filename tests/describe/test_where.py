"""The command that shows where attention can go."""

import json

import pytest

from attn_mm.describe import where
from attn_mm.describe.registered import RECIPES

CONFIG = "configs/tam/r18_plain_300e_cifar10.py"


def test_a_config(tmp_path, capsys):
    where.main([CONFIG, "--out", str(tmp_path / "out")])
    text = capsys.readouterr().out
    assert "layer1: " in text and "These fit: outputs, after, position, AWConv, TD, TDAF." in text
    (row,) = json.loads((tmp_path / "out" / "where.json").read_text())
    assert row["network"] == "backbone" and set(row["refused"].values()) == {""}


def test_a_part_that_does_not_take_all(capsys):
    pytest.importorskip("mmdet.models")
    where.main(["configs/fcos_tdaf_r50.py", "--part", "neck"])
    text = capsys.readouterr().out
    assert (
        "These fit: outputs, after, AWConv." in text and "TD does not: graft attn_mm.TD: FPN has no" in text
    )


@pytest.mark.parametrize(
    "args, said",
    [
        ([], "give a config, or --networks"),
        ([CONFIG, "--networks"], "give a config, or --networks"),
        ([CONFIG, "--part", "tail"], "has no model.tail: name one of backbone, neck, head by --part"),
        (["--networks", "mmfoo"], "invalid choice"),
    ],
)
def test_mistakes(args, said, capsys):
    with pytest.raises(SystemExit) as end:
        where.main(args)
    assert end.value.code == 2 and said in capsys.readouterr().err


def test_a_table(monkeypatch, tmp_path, capsys):
    some = {name: RECIPES[name] for name in ("mmpretrain.LeNet5", "mmpretrain.ResNet_CIFAR")}
    some["mmpretrain.Nothing"] = RECIPES["mmpretrain.LeNet5"]
    monkeypatch.setattr(where, "RECIPES", some)
    where.main(["--networks", "mmpretrain", "--out", str(tmp_path)])
    text = capsys.readouterr().out
    assert (
        "Of 3 networks, 2 take layers; by column: outputs 2, after 2, position 1, AWConv 2, TD 1, TDAF 2."
        in text
    )
    rows = {row["network"]: row for row in json.loads((tmp_path / "where.json").read_text())}
    assert "can't be built" in rows["mmpretrain.Nothing"]["error"]
    assert "LeNet5" in rows["mmpretrain.LeNet5"]["refused"]["TD"]
