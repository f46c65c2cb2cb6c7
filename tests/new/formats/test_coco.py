"""COCO files of any name and layout become the splits of a set, or one line says why not."""

import json

import pytest
from small import coco_set, write_annotations

from attn_mm.errors import UserError
from attn_mm.new.formats import coco
from attn_mm.new.formats.boxed import with_validation
from attn_mm.new.report import Report


def test_names_of_files_say_the_split(tmp_path):
    content = coco_set(tmp_path)
    (tmp_path / "annotations").mkdir()
    for name in ("instances_train2017", "instances_val2017", "trainval"):
        write_annotations(tmp_path / "annotations", content, f"{name}.json")
    report = Report()
    parts = with_validation(coco.read(tmp_path, report), 0, report)
    assert {split: (part.file, part.images) for split, part in parts.items()} == {
        "train": ("annotations/instances_train2017.json", "images"),
        "val": ("annotations/instances_val2017.json", "images"),
    }
    assert report.wrong == ["files without train, val or test in their names: 1, unused (trainval.json)"]


def test_folders_of_roboflow_say_the_split(tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / split).mkdir()
        write_annotations(tmp_path / split, coco_set(tmp_path / split), "_annotations.coco.json")
    assert [*coco.read(tmp_path, Report())] == ["test", "train", "val"]


def test_one_file_is_divided_by_the_seed(tmp_path):
    content = coco_set(tmp_path, 10)
    content["annotations"][0]["bbox"] = [70, 6, 36, 36]
    (tmp_path / "images/0009.jpg").unlink()
    (tmp_path / "images/0008.jpg").write_bytes(b"\xff\xd8 torn")
    write_annotations(tmp_path, content)
    divisions = []
    for seed in (0, 0, 1):
        report = Report()
        parts = with_validation(coco.read(tmp_path, report), seed, report)
        divisions.append([sorted(image["id"] for image in part.content["images"]) for part in parts.values()])
        assert report.wrong == [
            "images of annotations.json that are missing: 1, left out (0009.jpg)",
            "images of annotations.json that can't be read: 1, left out (0008.jpg)",
            "boxes of annotations.json that are empty or outside their images: 1, left out (annotation 1)",
        ]
        for part in parts.values():
            listed = {image["id"] for image in part.content["images"]}
            assert part.file is None and {item["image_id"] for item in part.content["annotations"]} <= listed
    train, val = divisions[0]
    assert sorted(train + val) == [*range(100, 108)] and len(val) == 2
    assert divisions[0] == divisions[1] != divisions[2]


@pytest.mark.parametrize(
    "names, error",
    [
        ((), "has no JSON file in COCO's format with boxes"),
        (("val",), "has annotations for val only, not for training"),
        (("train_a", "train_b"), "has several files for train, train_a.json, train_b.json: name one file"),
        (("a", "b"), "has several files for train, a.json, b.json: name one file with --data"),
    ],
)
def test_unclear_files_are_refused(names, error, tmp_path):
    content = coco_set(tmp_path)
    for name in names:
        write_annotations(tmp_path, content, f"{name}.json")
    with pytest.raises(UserError, match=error):
        coco.read(tmp_path, Report())


def test_images_are_somewhere(tmp_path):
    content = coco_set(tmp_path)
    content["images"] = [dict(image, file_name=f"x{image['file_name']}") for image in content["images"]]
    write_annotations(tmp_path, content)
    with pytest.raises(UserError, match=r"none of its images, such as x0000.jpg, is in"):
        coco.read(tmp_path, Report())


def test_a_file_can_be_named(tmp_path):
    (tmp_path / "annotations").mkdir()
    content = coco_set(tmp_path)
    for name in ("a", "test"):
        write_annotations(tmp_path / "annotations", content, f"{name}.json")
    named = tmp_path / "annotations/test.json"
    assert coco.root_of(named) == tmp_path
    assert coco.read(named, Report())["train"].file == "annotations/test.json"
    assert json.loads(named.read_text()) == content


def test_a_file_is_checked_before_it_is_divided(tmp_path):
    content = coco_set(tmp_path)
    del content["annotations"][3]["area"]
    write_annotations(tmp_path, content)
    with pytest.raises(UserError, match=r"annotations.json: annotations\[3\] has no area"):
        coco.read(tmp_path, Report())


def test_a_test_set_stays_where_a_training_set_is_divided(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        write_annotations(tmp_path / split, coco_set(tmp_path / split), f"{split}.json")
        (tmp_path / split / "images/0000.jpg").unlink()
    report = Report()
    parts = coco.read(tmp_path, report)
    assert {split: len(part.content["images"]) for split, part in parts.items()} == {"test": 6, "train": 5}
    assert sorted(report.wrong) == [
        "images of test/test.json that are missing: 1, training skips them, a test stops (0000.jpg)",
        "images of train/train.json that are missing: 1, left out (0000.jpg)",
    ]


def test_a_broken_file_beside_the_annotations_is_named(tmp_path):
    content = coco_set(tmp_path)
    (tmp_path / "settings.json").write_text("{ // unrelated")
    assert not coco.is_coco(tmp_path)
    with pytest.raises(UserError, match=r"settings.json is not a JSON file"):
        coco.check_files(tmp_path)
    write_annotations(tmp_path, content, "all.json")
    assert coco.is_coco(tmp_path)
    report = Report()
    assert coco.read(tmp_path, report)["train"].file == "all.json"
    assert report.wrong == ["JSON files that can't be read: 1, unused (settings.json)"]
    (tmp_path / "val.json").write_text("torn")
    with pytest.raises(UserError, match=r"val.json is not a JSON file"):
        coco.read(tmp_path, Report())


def test_a_file_is_parsed_once_for_recognising_and_reading(tmp_path, monkeypatch):
    write_annotations(tmp_path, coco_set(tmp_path))
    parsed = []
    monkeypatch.setattr(coco.json, "loads", lambda text, loads=json.loads: parsed.append(1) or loads(text))
    assert coco.is_coco(tmp_path) and len(coco.read(tmp_path, Report())) == 1
    assert len(parsed) == 1
