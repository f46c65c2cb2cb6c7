"""``attn-mm new``: what it says and what it writes."""

import json

import pytest
from mmengine.config import Config
from own_data import class_images, voc_image
from small import coco_set, write_annotations
from small_videos import write_video

from attn_mm.new.main import main
from attn_mm.utils.config import load_config


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def new(*arguments, status=None):
    if status is None:
        return main([*map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    assert stop.value.code == status


def voc(root):
    for split in ("train", "val"):
        for number in range(4):
            boxes = [("cell", 6, 6, 42, 42), ("nucleus", 10, 10, 20, 20)][: 2 - number % 2]
            voc_image(root / split, f"{split}{number}", boxes)
    voc_image(root / "train", "odd", [("cell", 7, 7, 7, 7), ("cell", 1, 1, 30, 30)])


def test_detection(tmp_path, capsys):
    voc(tmp_path / "set")
    new("detection", "--data", "set", "--backbone", "resnet18", "--attention", "cbam", "--size", 64)
    said = capsys.readouterr().out.splitlines()
    assert said[:6] == [
        f"{tmp_path}/set: boxes in VOC's format, 2 classes",
        "train: 5 images of 64 x 48 pixels, 7 boxes",
        "val: 4 images of 64 x 48 pixels, 6 boxes",
        "classes: cell 9, nucleus 4",
        "wrong: boxes that are empty or outside their images: 1, left out (cell, object 0 of odd.xml)",
        "wrote my.py",
    ]
    assert said[-1] == "next: attn-mm train my.py"
    cfg = load_config("my.py")
    assert cfg.model.bbox_head.num_classes == 2 and cfg.train_cfg.max_epochs == 100
    assert [graft.type for graft in cfg.model.backbone.grafts] == ["attn_mm.CBAM"]
    assert cfg.test_dataloader.dataset.ann_file == f"{tmp_path}/my_annotations/val.json"
    assert len(json.loads((tmp_path / "my_annotations/train.json").read_text())["annotations"]) == 7
    before = (tmp_path / "my.py").read_bytes()
    new("detection", "--data", "set", status=2)
    assert capsys.readouterr().err == "error: my.py exists; --force replaces it\n"
    assert (tmp_path / "my.py").read_bytes() == before
    new("detection", "--data", "set", "--backbone", "resnet18", "--attention", "none", "--force")
    assert load_config("my.py").model.backbone.type == "ResNet"


def test_a_set_that_a_run_refuses_is_refused_before_anything_is_written(tmp_path, capsys):
    content = coco_set(tmp_path / "set")
    del content["annotations"][0]["area"]
    for split in ("train", "val"):
        write_annotations(tmp_path / "set", content, f"{split}.json")
    new("detection", "--data", "set", "--backbone", "resnet18", status=2)
    assert capsys.readouterr().err.endswith("set/train.json: annotations[0] has no area\n")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_pose(tmp_path, capsys):
    content = coco_set(tmp_path / "set")
    names = ["left_eye", "right_eye", "tail"]
    content["categories"][0].update(keypoints=names, skeleton=[[1, 2]])
    for item in content["annotations"]:
        item["keypoints"] = item["keypoints"][:9] if item["category_id"] == 1 else []
    content["annotations"] = [item for item in content["annotations"] if item["keypoints"]]
    write_annotations(tmp_path / "set", content, "all.json")
    new("pose", "--data", "set", "--backbone", "resnet18", "--out", "deep/fish.py", "--size", 96)
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "no validation set: 1 of 6 images are held out (seed 0)"
    assert "left and right by their names: left_eye - right_eye" in said
    cfg = load_config("deep/fish.py")
    assert (cfg.model.head.out_channels, cfg.codec.input_size) == (3, (64, 96))
    meta = cfg.train_dataloader.dataset.metainfo
    assert meta.sigmas == [0.025, 0.025, 0.05]
    assert [point["swap"] for point in meta.keypoint_info.values()] == ["right_eye", "left_eye", ""]


def test_classification(tmp_path):
    class_images(tmp_path / "set", ["größe ä", "b"])
    new("classification", "--data", "set", "--backbone", "resnet18", "--attention", "SE", "TD")
    cfg = load_config("my.py")
    assert (cfg.model.head.num_classes, cfg.model.head.topk, cfg.val_evaluator.topk) == (2, 1, 1)
    lines = (tmp_path / "my_annotations/train.txt").read_text().splitlines()
    assert [line.rpartition("/")[0] + line[-2:] for line in lines] == ["b 0"] * 4 + ["größe ä 1"] * 4


def test_action(tmp_path, capsys):
    for name in ("jump high", "run"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(2):
            write_video(tmp_path / "set" / name / f"clip {index}.mp4", frames=12 + 8 * index)
    (tmp_path / "set/run/torn.mp4").write_bytes(b"torn")
    new("action", "--data", "set", "--backbone", "resnet18", "--attention", "TDAF")
    said = capsys.readouterr().out
    assert "wrong: videos that can't be read: 1, left out (torn.mp4)\n" in said
    assert "wrong: videos of fewer than 16 frames: 2, their frames are repeated (clip 0.mp4," in said
    cfg: Config = load_config("my.py")
    assert (cfg.model.cls_head.num_classes, cfg.train_dataloader.dataset.delimiter) == (2, "\t")
    # One sample can't be normalised.
    assert cfg.train_dataloader.batch_size == 2


def test_one_image_is_too_few(tmp_path, capsys):
    class_images(tmp_path / "set/train", ["a"], 1)
    class_images(tmp_path / "set/val", ["a", "b"], 1)
    new("classification", "--data", "set", status=2)
    assert capsys.readouterr().err.endswith("has 1 images to train on: two or more are needed\n")


@pytest.mark.parametrize(
    "arguments, error",
    [
        (["detection", "--data", "none"], "/none does not exist"),
        (["detection", "--data", "."], "has no boxes of COCO, VOC or YOLO: CVAT and"),
        (["detection", "--data", ".", "--attention", "CBMA"], "did you mean CBAM?"),
        (["detection", "--data", ".", "--attention", "none", "TD"], "none can't be combined with others"),
        (["detection", "--data", ".", "--attention", "TimmLayer"], "as in TimmLayer:coord"),
        (["detection", "--data", ".", "--out", "x.json"], "the name of a config ends with .py"),
        (["detection", "--data", ".", "--name", 'a"b'], "can't be the name of a config: use letters"),
        (["detection", "--data", ".", "--out", "deep/a\nb.py"], "can't be the name of a config: use letters"),
        (["detection", "--data", ".", "--out", 'a"b/c.py'], "can't have a config: rename it"),
        (["detection", "--data", ".", "--size", "31"], "--size 31 is too small: networks need 32 pixels"),
        (["pose", "--data", ".", "--format", "voc"], "--format is for detection; pose needs none"),
        (["pose", "--data", "."], "has no JSON file in COCO's format with keypoints"),
        (["classification", "--data", "."], "for each of two or more classes; it has none"),
    ],
)
def test_refusals(arguments, error, tmp_path, capsys):
    new(*arguments, status=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and error in line
    assert not [*tmp_path.iterdir()]


def test_a_name_and_a_file_exclude_each_other(capsys):
    new("detection", "--data", ".", "--name", "x", "--out", "y.py", status=2)
    assert "not allowed with argument --name" in capsys.readouterr().err
