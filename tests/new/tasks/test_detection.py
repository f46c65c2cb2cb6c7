"""The schedule of a detector counts the images that it trains on."""

import pytest
from small import coco_set, write_annotations

from attn_mm.errors import UserError
from attn_mm.new.plan import Wishes
from attn_mm.new.tasks.detection import plan


def make(root, boxed):
    content = coco_set(root)
    write_annotations(root, content, "val.json")
    kept = [item for item in content["annotations"] if item["image_id"] < 100 + boxed]
    write_annotations(root, dict(content, annotations=kept), "train.json")
    return plan("my", Wishes(root)).config


def test_images_without_a_box_do_not_count(tmp_path):
    # Of 6 images 5 are used, in batches of 2: the last would have one image.
    assert "drop_last=True" in make(tmp_path, boxed=5)
    assert "drop_last" not in make(tmp_path, boxed=6)


def test_one_image_is_too_few(tmp_path):
    with pytest.raises(UserError, match="has 1 images of at least 32 pixels with a box to train on: two"):
        make(tmp_path, boxed=1)
