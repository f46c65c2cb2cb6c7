"""YOLO's sets as Ultralytics, Roboflow, CVAT and Label Studio lay them out, read by supervision."""

import cv2
import pytest
import yaml
from small import picture

from attn_mm.errors import UserError
from attn_mm.new.formats import yolo
from attn_mm.new.report import Report

pytest.importorskip("supervision", reason="the extra data is not installed")

LAYOUTS = {
    "ultralytics": (
        {"train": ("images/train", "labels/train"), "val": ("images/val", "labels/val")},
        dict(path="../datasets/x", train="images/train", val="images/val", test=None),
    ),
    "roboflow": (
        {"train": ("train/images", "train/labels"), "val": ("valid/images", "valid/labels")},
        dict(train="../train/images", val="../valid/images"),
    ),
    "cvat": (
        {"train": ("images/train", "labels/train"), "val": ("images/val", "labels/val")},
        dict(path=".", train="train.txt", val="val.txt"),
    ),
    "label studio": ({"train": ("images", "labels")}, None),
    "darknet": ({"train": ("obj_train_data", "obj_train_data")}, None),
}


def make(root, layout, labels="1 0.5 0.5 0.25 0.5\n0 0.1 0.1 0 0\n"):
    folders, description = LAYOUTS[layout]
    for split, (images, annotations) in folders.items():
        for folder in (images, annotations):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for name in (f"{split} 0", f"{split}_1"):
            cv2.imwrite(str(root / images / f"{name}.jpg"), picture())
            (root / annotations / f"{name}.txt").write_text(labels)
        if layout == "cvat":
            names = sorted((root / images).iterdir())
            (root / f"{split}.txt").write_text("".join(f"data/{images}/{path.name}\n" for path in names))
    if description is None:
        (root / "classes.txt").write_text("cell\nplatelet\n")
    else:
        names = {1: "platelet", 0: "cell"} if layout == "cvat" else ["cell", "platelet"]
        (root / "data.yaml").write_text(yaml.safe_dump({**description, "names": names}, sort_keys=False))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path):
    make(tmp_path, layout)
    report = Report()
    assert yolo.is_yolo(tmp_path)
    parts = yolo.read(tmp_path, report)
    assert [*parts] == [*LAYOUTS[layout][0]]
    for split, part in parts.items():
        folder = LAYOUTS[layout][0][split][0]
        assert [image["file_name"] for image in part.content["images"]] == [
            f"{folder}/{split} 0.jpg",
            f"{folder}/{split}_1.jpg",
        ]
        names = {item["id"]: item["name"] for item in part.content["categories"]}
        assert [(names[i["category_id"]], i["bbox"]) for i in part.content["annotations"]] == [
            ("platelet", [24, 12, 16, 24])
        ] * 2
    (empty,) = report.wrong
    assert empty.startswith(f"boxes that are empty or outside their images: {2 * len(parts)}, left out (cell")


@pytest.mark.parametrize(
    "labels, error",
    [
        ("2 0.5 0.5 0.1 0.1\n", "class_id 2, outside the valid range"),
        ("1 0.5 0.5 nan 0.1\n", "Invalid YOLO annotation file .*train"),
        ("1 0.5 0.5\n", "Invalid YOLO annotation file .*train"),
    ],
)
def test_a_wrong_label_is_refused(labels, error, tmp_path):
    make(tmp_path, "label studio", labels)
    with pytest.raises(UserError, match=error):
        yolo.read(tmp_path, Report())


def test_files_that_lack_their_partner_are_named(tmp_path):
    make(tmp_path, "label studio")
    (tmp_path / "labels/train_1.txt").unlink()
    (tmp_path / "images/train 0.jpg").unlink()
    report = Report()
    (part,) = yolo.read(tmp_path, report).values()
    assert part.content["annotations"] == [] and len(part.content["images"]) == 1
    assert report.wrong == [
        "images without a label file: 1, no object in them (train_1.jpg)",
        "label files without an image: 1, left out (train 0.txt)",
    ]


def test_a_missing_folder_is_refused(tmp_path):
    make(tmp_path, "ultralytics")
    (tmp_path / "images/val").rename(tmp_path / "images/elsewhere")
    with pytest.raises(UserError, match="val: images/val is missing in"):
        yolo.read(tmp_path, Report())
