"""``--demo`` on detection configs of several kinds, and what it leaves as it was configured."""

import json

import pytest
from mmengine.config import Config

from attn_mm.datasets.shapes import CLASSES
from attn_mm.engine import train
from attn_mm.engine.configs import walk
from attn_mm.engine.demo import IMAGE_SIZE, to_demo
from attn_mm.errors import UserError

KINDS = {
    "faster_rcnn": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "mask_rcnn": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "ssd": "ssd/ssd300_coco.py",
}


@pytest.fixture
def small_cache(monkeypatch):
    """The generated set is some seconds' work for each image size; here a few images will do."""
    from attn_mm.engine import demo

    make = demo.make_shapes
    monkeypatch.setattr(demo, "make_shapes", lambda **kwargs: make(num_train=8, num_val=6, **kwargs))


@pytest.mark.parametrize("kind", KINDS)
def test_demo_of_an_upstream_config(kind, tmp_path, small_cache):
    config = tmp_path / f"{kind}.py"
    config.write_text(f"_base_ = 'mmdet::{KINDS[kind]}'\n")
    options = [
        "train_cfg.max_epochs=1",
        "train_dataloader.batch_size=2",
        "train_dataloader.dataset.indices=4",
    ]
    train.main([str(config), "--demo", "--work-dir", str(tmp_path / "work"), "--cfg-options", *options])
    assert json.loads((tmp_path / "work/results.json").read_text())["epoch"] == 1
    assert (tmp_path / "work/epoch_1.pth").is_file()
    assert len(list((tmp_path / "work/pictures").glob("*.jpg"))) == 6


def test_the_model_stays_but_for_classes_and_origin(repo, small_cache):
    path = repo / "configs/fcos_tdaf_r50.py"
    before, cfg = Config.fromfile(path), Config.fromfile(path)
    to_demo(cfg)
    assert cfg.model.bbox_head.num_classes == len(CLASSES)
    cfg.model.bbox_head.num_classes = before.model.bbox_head.num_classes
    for model in (before.model, cfg.model):
        for node in walk(model):
            for key in ("init_cfg", "frozen_stages"):
                node.pop(key, None)
    assert cfg.model == before.model


def test_evaluation_is_on_held_out_images_of_the_demo_size(repo, small_cache):
    cfg = Config.fromfile(repo / "configs/fcos_tdaf_r50.py")
    to_demo(cfg)
    assert cfg.train_dataloader.dataset.ann_file != cfg.val_dataloader.dataset.ann_file
    assert cfg.val_evaluator.ann_file.endswith(cfg.val_dataloader.dataset.ann_file)
    sizes = [step.scale for step in cfg.train_dataloader.dataset.pipeline if step.type == "Resize"]
    assert sizes == [(IMAGE_SIZE, IMAGE_SIZE)]


def test_only_detection_configs():
    with pytest.raises(UserError, match="--demo works on detection configs"):
        to_demo(Config(dict(default_scope="mmpose", model=dict())))
