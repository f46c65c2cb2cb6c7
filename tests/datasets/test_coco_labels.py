"""COCO's labels of whole images."""

from __future__ import annotations

import json
from collections import Counter

import pytest

pytest.importorskip("mmpretrain.datasets")

from attn_mm.datasets.coco_labels import CLASSES, CocoLabels
from attn_mm.errors import UserError

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 5, "name": "cow"}]
IMAGES = [{"id": number, "file_name": f"{number}.jpg"} for number in (12, 10, 11)]
ANNOTATIONS = [
    {"image_id": 12, "category_id": 7, "iscrowd": 1, "area": 3},
    {"image_id": 12, "category_id": 3, "iscrowd": 0, "area": 0.5},
    {"image_id": 12, "category_id": 7, "iscrowd": 0, "area": 900},
    {"image_id": 10, "category_id": 5, "iscrowd": 0, "area": 900},
]
CONTENT = dict(images=IMAGES, annotations=ANNOTATIONS, categories=CATEGORIES)


def write(folder, **changes):
    path = folder / "instances.json"
    path.write_text(json.dumps({**CONTENT, **changes}))
    return path


def build(path, classes=("dog", "cat", "cow")):
    return CocoLabels(ann_file=str(path), data_prefix="photos", metainfo=dict(classes=classes))


def labels(dataset):
    return {
        dataset.get_data_info(i)["img_path"]: dataset.get_data_info(i)["gt_label"]
        for i in range(len(dataset))
    }


def test_an_image_has_each_of_its_classes_once_crowds_included(tmp_path):
    assert labels(build(write(tmp_path))) == {"photos/12.jpg": [0, 1], "photos/10.jpg": [2]}


def test_of_some_classes_an_annotated_image_may_have_none(tmp_path):
    assert labels(build(write(tmp_path), ("cat",))) == {"photos/12.jpg": [0], "photos/10.jpg": []}


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(annotations=None), "annotations: expected array, got null"),
        (dict(images=[{"id": 1}]), r"images\[0\] has no file_name"),
        (dict(annotations=[{"image_id": 1}]), r"annotations\[0\] has no category_id"),
        (dict(annotations=[]), "has no annotated image"),
        (dict(categories=CATEGORIES[:1]), "has no category 'dog', nor 1 more of the config's classes: list"),
        (dict(categories=CATEGORIES[:2]), "has no category 'cow': list its categories in metainfo"),
    ],
)
def test_what_is_wrong_with_the_file(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        build(write(tmp_path, **changes))


def test_a_file_that_is_missing_or_no_json(tmp_path):
    with pytest.raises(UserError, match=r"gone\.json can't be read \(No such file or directory\)"):
        build(tmp_path / "gone.json")
    (tmp_path / "torn.json").write_text('{"images": [')
    with pytest.raises(UserError, match=r"torn\.json is not a JSON file"):
        build(tmp_path / "torn.json")


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_real_annotations(coco_tiny, split):
    path = coco_tiny / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    dataset = CocoLabels(ann_file=str(path), data_prefix=str(coco_tiny / split))
    assert tuple(c["name"] for c in sorted(content["categories"], key=lambda c: c["id"])) == CLASSES

    number = {
        category["id"]: place
        for place, category in enumerate(sorted(content["categories"], key=lambda c: c["id"]))
    }
    shown = Counter((a["image_id"], number[a["category_id"]]) for a in content["annotations"])
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert {(info["img_id"], label) for info in infos for label in info["gt_label"]} == shown.keys()
    files = {image["id"]: image["file_name"] for image in content["images"]}
    assert len(infos) == len({image for image, _ in shown}) == 80
    for info in infos:
        assert info["img_path"] == str(coco_tiny / split / files[info["img_id"]])
        assert info["gt_label"] == sorted(set(info["gt_label"]))
