"""What ``attn-mm new`` writes trains, and keeps the best checkpoint of its validation."""

import pytest
from own_data import class_images, voc_image
from small import coco_set, write_annotations
from small_videos import write_video

from attn_mm.new.main import main
from attn_mm.run import train

pytestmark = pytest.mark.whole


def detection(root):
    for split in ("train", "val"):
        for number in range(3):
            voc_image(root / split, str(number), [("cell", 3, 3, 30, 30), ("cell", 30, 10, 60, 40)])
            xml = root / split / f"{number}.xml"
            xml.write_text(xml.read_text().replace("<bndbox>", "<difficult>1</difficult><bndbox>", 1))


def pose(root):
    content = coco_set(root)
    content["categories"][0].update(keypoints=["left_eye", "right_eye", "tail"], skeleton=[[1, 2]])
    content["annotations"] = [item for item in content["annotations"] if item["category_id"] == 1]
    for item in content["annotations"]:
        item.update(keypoints=item["keypoints"][:9], num_keypoints=3)
    write_annotations(root, content, "all.json")


def classification(root):
    class_images(root, ["train", "größe { fileDirname }"])


def action(root):
    for name in ("jump high", "run"):
        (root / name).mkdir(parents=True)
        for index in range(3):
            write_video(root / name / f"clip {index}.mp4", frames=16)


@pytest.mark.parametrize("make", [detection, pose, classification, action])
def test_a_written_config_trains(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "set")
    main([make.__name__, "--data", "set", "--backbone", "resnet18", "--size", "64", "--epochs", "2"])
    train.main(["my.py", "--no-pretrained", "--work-dir", "work"])
    assert [*(tmp_path / "work").glob("best_*.pth")]
