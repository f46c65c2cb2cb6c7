"""``attn-mm list`` lists what is in the metafiles."""

from __future__ import annotations

import csv
import io
import json

import pytest

from attn_mm.papers.list_configs import listed, main
from attn_mm.utils.config_names import CONFIGS


def printed(capsys, *words: str) -> str:
    main(list(words))
    return capsys.readouterr().out


def test_every_config_is_listed_once():
    paths = [row.config for row in listed()]
    on_disk = CONFIGS.glob("*/[!_]*.py"), CONFIGS.glob("*.py")
    files = {f"configs/{path.relative_to(CONFIGS)}" for found in on_disk for path in found}
    assert len(paths) == len(set(paths)) and set(paths) == {name for name in files if "/_base_/" not in name}


def test_a_paper_and_a_task(capsys):
    text = printed(capsys, "--paper", "tdaf", "--task", "detection")
    lines = text.splitlines()
    assert len(lines) == 13 and lines[-1] == "9 configs"
    cells = [cell.strip() for cell in lines[4].strip("|").split("|")]
    assert cells == ["fcos_tdaf_r50.py", "detection", "32.46 M", "230.88 G", "AP 39.6, table 4"]


def test_json_has_every_field(capsys):
    rows = json.loads(printed(capsys, "--task", "pose", "--json"))
    assert {row["task"] for row in rows} == {"pose"} and {row["paper"] for row in rows} == {"pose", "tdaf"}
    (row,) = (r for r in rows if r["config"].endswith("/simplebaseline-r50_head-tdaf-anar3_140e_coco.py"))
    assert row["framework"] == "mmpose" and row["parameters"] == 34_065_587
    assert row["published"][0]["where"] == "table 5" and row["published"][0]["metrics"]


def test_csv_has_a_line_for_each_config(capsys):
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "--paper", "aw", "--csv"))))
    assert len(rows) == len(list(listed("aw")))
    (row,) = (row for row in rows if row["config"] == "configs/aw/mobilenet_plain_90e_in1k.py")
    assert (row["parameters"], row["macs"]) == ("4231976", "568740352")
    assert row["published"].startswith("table 1, ImageNet: Top 1 ")


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ("configs/td/r50_td-joint_asl_coco2014.py", "multilabel"),
        ("configs/multilabel/r50_aw_asl_coco.py", "multilabel"),
        ("configs/finegrained/wsdan-r50_aw_cub.py", "classification"),
        ("configs/tdaf/3dr50_plain_kinetics400.py", "action"),
        ("configs/segmentation/fcn-r50_plain_voc12aug.py", "segmentation"),
        ("configs/detection/mask-rcnn-r50_neck-aw-cbam_coco.py", "detection"),
    ],
)
def test_the_task_of_a_config(config, task):
    assert [row.task for row in listed() if row.config == config] == [task]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--paper", "td", "--task", "pose"],
            "has no config for pose, but some for classification, multilabel",
        ),
        (["--paper", "tda"], "invalid choice: 'tda'"),
        (["--json", "--csv"], "not allowed with"),
    ],
)
def test_what_the_list_lacks(words, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert said in capsys.readouterr().err
