"""The files that a config names are looked for before anything is built."""

import pytest
import small
from mmengine.config import Config

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.errors import UserError
from attn_mm.utils.config import load_config, set_data_root


@pytest.fixture
def fcos(repo):
    return Config.fromfile(repo / "configs/fcos_tdaf_r50.py")


def test_the_data_of_every_part_is_looked_for(tmp_path):
    small.voc_set(tmp_path)
    cfg = load_config(small.VOC)
    set_data_root(cfg, str(tmp_path))
    check_data(cfg, ("train", "val", "test"))
    (tmp_path / "VOC2012/ImageSets/Main/trainval.txt").unlink()
    with pytest.raises(UserError, match=r"VOC2012/ImageSets/Main/trainval\.txt is missing"):
        check_data(cfg, ("train",))
    check_data(cfg, ("val", "test"))


def test_a_detection_file_is_looked_for(tmp_path):
    small.write_annotations(tmp_path, small.coco_set(tmp_path))
    cfg = small.pose_config(tmp_path)
    check_data(cfg, ("train", "val", "test"))
    cfg.test_dataloader.dataset.bbox_file = str(tmp_path / "boxes.json")
    check_data(cfg, ("train", "val"))
    with pytest.raises(
        UserError, match=r"boxes\.json is missing: create it with attn-mm make-bbox-file"
    ) as error:
        check_data(cfg, ("test",))
    assert "bbox_file=None" in str(error.value) and "\n" not in str(error.value)
    box = dict(image_id=100, category_id=1, bbox=[1, 2, 3, 4], score=0.5)
    small.write_annotations(tmp_path, [box], "boxes.json")
    check_data(cfg, ("test",))


def test_an_evaluators_annotations_are_looked_for(tmp_path):
    small.write_annotations(tmp_path, small.coco_set(tmp_path))
    cfg = small.pose_config(tmp_path)
    cfg.val_evaluator = [dict(type="CocoMetric", ann_file=str(tmp_path / "absent.json"))]
    check_data(cfg, ("train", "test"))
    with pytest.raises(UserError, match=r"absent\.json is missing"):
        check_data(cfg, ("val",))


def test_missing_data_says_where_and_how(fcos, tmp_path):
    set_data_root(fcos, str(tmp_path))
    with pytest.raises(UserError) as error:
        check_data(fcos, ("train",))
    message = str(error.value)
    assert str(tmp_path / "annotations/instances_train2017.json") in message
    assert "--data-root" in message and "--demo" in message and "\n" not in message


def test_present_data_is_accepted(fcos, tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val2017.json").touch()
    (tmp_path / "val2017").mkdir()
    set_data_root(fcos, str(tmp_path))
    check_data(fcos, ("val", "test"))
