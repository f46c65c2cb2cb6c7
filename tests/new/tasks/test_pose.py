"""Which keypoints a mirror exchanges, by their names, and which categories are refused."""

import runpy
import sys
from pathlib import Path

import pytest
from small import coco_set, write_annotations

import attn_mm.new
from attn_mm.datasets.generated.jointed_figure import KEYPOINTS
from attn_mm.errors import UserError
from attn_mm.new.plan import Wishes
from attn_mm.new.tasks.pose import mirror_names, plan


@pytest.mark.parametrize(
    "names, pairs",
    [
        (["nose", "ls", "rs", "lh", "rh"], {"ls": "rs", "lh": "rh"}),
        (["eye_l", "eye_r", "tail"], {"eye_l": "eye_r"}),
        (["LeftPaw", "RightPaw", "Left"], {"LeftPaw": "RightPaw"}),
        (["lip", "rim", "root"], {}),
        (["front left foot", "front right foot"], {"front left foot": "front right foot"}),
    ],
)
def test_left_and_right(names, pairs):
    assert {one: other for one, other in mirror_names(names).items() if other} == {
        **pairs,
        **{other: one for one, other in pairs.items()},
    }


def test_all_of_coco_but_the_nose_have_a_partner():
    mirrored = mirror_names(KEYPOINTS)
    assert [name for name, other in mirrored.items() if not other] == ["nose"]
    assert all(mirrored[other] == name for name, other in mirrored.items() if other)


@pytest.mark.parametrize(
    "changed, error",
    [
        (dict(skeleton=[[1, 2], [1, 18]]), r"skeleton\[1\] is \[1, 18\], not two .* from 1 to 17"),
        (
            dict(skeleton=[[0, 1]]),
            r"skeleton\[0\] is \[0, 1\], not two of the keypoints' numbers from 1 to 17",
        ),
        (dict(skeleton=[["a", "b"]]), r"skeleton\[0\] is \['a', 'b'\], not two"),
        (dict(skeleton=[[1]]), r"skeleton\[0\] is \[1\], not two"),
        (dict(skeleton=[[1.5, True]]), r"skeleton\[0\] is \[1.5, True\], not two"),
        (dict(skeleton=[5]), r"skeleton\[0\] is 5, not two"),
        (dict(skeleton="x"), "the skeleton is 'x', not a list of pairs of keypoints"),
        (dict(keypoints=["nose"] * 17), "two keypoints are named 'nose'"),
        (dict(keypoints=["nose", 1]), r"categories\[0\].keypoints\[1\]: expected str"),
    ],
)
def test_wrong_categories_are_refused(changed, error, tmp_path):
    content = coco_set(tmp_path)
    for item in content["annotations"]:
        item["keypoints"] *= item["category_id"] == 1
    content["categories"][0].update(dict(keypoints=[*KEYPOINTS], skeleton=[[1, 2]]) | changed)
    write_annotations(tmp_path, content, "all.json")
    with pytest.raises(UserError, match=f"all.json: {error}"):
        plan("my", Wishes(tmp_path))


def test_objects_that_mmpose_drops_do_not_count(tmp_path):
    content = coco_set(tmp_path, 3)
    content["categories"][0].update(keypoints=[*KEYPOINTS])
    persons = [item for item in content["annotations"] if item["category_id"] == 1]
    persons[0]["iscrowd"] = 1
    persons[1]["keypoints"] = [0] * 51
    write_annotations(tmp_path, dict(content, annotations=persons), "train.json")
    write_annotations(tmp_path, dict(content, annotations=persons), "val.json")
    with pytest.raises(UserError, match="has 1 objects with a visible keypoint to train on: two or more"):
        plan("my", Wishes(tmp_path))


def test_nothing_needs_pycocotools(monkeypatch):
    for name in [*sys.modules, "pycocotools"]:
        if name.partition(".")[0] == "pycocotools":
            monkeypatch.setitem(sys.modules, name, None)
    for path in Path(attn_mm.new.__file__).parent.rglob("*.py"):
        runpy.run_path(str(path))
