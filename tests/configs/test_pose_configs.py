"""Every pose config builds, trains a step, predicts, and has the parameters that the docs and papers say."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from module_parameters import ANARS_OF_RESNET50, grafts_of_resnet50
from thinned import thinned

from attn_mm.utils.config import ConfigOptions, load_config, walk

pytest.importorskip("mmpose.models")

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
NAMES = sorted(
    str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.glob("*/simplebaseline-*.py")
)
# Attention in the backbone changes nothing about a network's crops.
OWN_DATA = [name for name in NAMES if name.startswith("tdaf/") and "-r101_" not in name]
EACH_CONFIG = pytest.mark.parametrize("name", NAMES)
# Two ANARs on 256 channels, by hand.
ADDED = {
    "tdaf/simplebaseline-r50_head-tdaf-anar3_140e_coco": 2 * 32_945,
    "tdaf/simplebaseline-r50_head-tdaf-anar3-pyramid_140e_coco": 2 * 32_945,
    "tdaf/simplebaseline-r50_head-tdaf-anar5_140e_coco": 2 * 152_113,
    "tdaf/simplebaseline-r50_head-tdaf-anar7_140e_coco": 2 * 207_665,
    "tdaf/simplebaseline-r101_head-tdaf-anar3_140e_coco": 2 * 32_945,
    "tdaf/simplebaseline-r101_head-tdaf-anar5_140e_coco": 2 * 152_113,
    "pose/simplebaseline-r50_tdaf-anar3_coco": ANARS_OF_RESNET50[3],
    **{
        f"pose/simplebaseline-r50_{kind}_coco": added
        for kind, added in grafts_of_resnet50(stages=(0, 1, 2, 3)).items()
    },
}
SIZE = (64, 64)


def config(name, *options):
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions, default={})
    args = parser.parse_args(["--cfg-options", *options] if options else [])
    return load_config(str(CONFIGS / f"{name}.py"), args.cfg_options)


def shrunk(cfg):
    """The config for small crops, with fewer channels and without a download."""
    for node in walk(cfg.values()):
        if node.get("type") == "MSRAHeatmap":
            node.update(input_size=SIZE, heatmap_size=tuple(side // 4 for side in SIZE))
        elif node.get("type") == "TopdownAffine":
            node.input_size = SIZE
        elif node.get("type") == "ResNet":
            node.update(init_cfg=None, base_channels=8, stem_channels=8)
    cfg.model.head.in_channels = 256
    return cfg


def build(model):
    from mmpose.registry import MODELS

    with DefaultScope.overwrite_default_scope("mmpose"):
        return MODELS.build(model)


def batch(pipeline):
    """Two crops of generated persons, through the config's own pipeline behind the loading of the image."""
    from mmengine.dataset import Compose, pseudo_collate
    from mmpose.testing import get_coco_sample
    from mmpose.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope("mmpose"):
        steps = Compose(pipeline[1:])
        samples = [get_coco_sample(img_shape=(80, 96), with_bbox_cs=False) for _ in range(2)]
        for index, sample in enumerate(samples):
            ids = dict(id=index, img_id=index, img_path="", category_id=1, crowd_index=0, raw_ann_info=None)
            sample.update(ids, bbox_score=np.ones(1, np.float32))
        return pseudo_collate([steps(sample) for sample in samples])


def parameters(model):
    with torch.device("meta"):
        return sum(p.numel() for p in build(model).parameters())


@pytest.mark.parametrize("name", thinned(NAMES, OWN_DATA))
def test_trains_a_step_and_predicts(name):
    cfg = shrunk(config(name))
    net = build(cfg.model)
    net.train()
    losses = net(**net.data_preprocessor(batch(cfg.train_pipeline), True), mode="loss")
    loss, _ = net.parse_losses(losses)
    assert loss.isfinite() and loss > 0
    loss.backward()
    for key, p in net.named_parameters():
        assert p.requires_grad and p.grad is not None and p.grad.isfinite().all(), key
    net.eval()
    with torch.no_grad():
        results = net(**net.data_preprocessor(batch(cfg.val_pipeline), False), mode="predict")
    assert len(results) == 2
    for result in results:
        keypoints = result.pred_instances.keypoints
        assert keypoints.shape == (1, 17, 2) and np.isfinite(keypoints).all()


@pytest.mark.parametrize("depth, millions", [(50, 34.0), (101, 53.0)])
def test_published_parameters_of_simplebaseline(depth, millions):
    assert (
        round(parameters(config(f"tdaf/simplebaseline-r{depth}_plain_140e_coco").model) / 1e6, 1) == millions
    )


@pytest.mark.parametrize("variant", ADDED)
def test_added_parameters(variant):
    plain = f"tdaf/simplebaseline-{'r101' if 'r101' in variant else 'r50'}_plain_140e_coco"
    assert parameters(config(variant).model) - parameters(config(plain).model) == ADDED[variant]


def test_ground_truth_boxes_by_an_option_and_detections_without():
    cfg = config(
        "tdaf/simplebaseline-r50_head-tdaf-anar3_140e_coco", "test_dataloader.dataset.bbox_file=None"
    )
    assert cfg.test_dataloader.dataset.bbox_file is None
    assert cfg.val_dataloader.dataset.bbox_file.endswith("COCO_val2017_detections_AP_H_56_person.json")


@pytest.mark.parametrize("boxes, count", [("None", 12), ("test_coco_det_AP_H_56.json", 118)])
def test_evaluates_with_either(boxes, count, real_data, tmp_path):
    from mmengine.runner import Runner

    root = real_data / "coco_pose"
    if boxes != "None":
        boxes = root / boxes
    cfg = shrunk(
        config(
            "tdaf/simplebaseline-r50_head-tdaf-anar3_140e_coco", f"test_dataloader.dataset.bbox_file={boxes}"
        )
    )
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.update(
        data_root=str(root), ann_file="test_coco.json", data_prefix=dict(img="")
    )
    cfg.test_evaluator.ann_file = str(root / "test_coco.json")
    cfg.work_dir, cfg.launcher, cfg.experiment_name = str(tmp_path), "none", f"evaluates-{count}"
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "auto_scale_lr"):
        cfg.pop(key, None)
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg.pop(key)
    runner = Runner.from_cfg(cfg)
    metrics = runner.test()
    assert len(runner.test_dataloader.dataset) == count
    assert 0 <= metrics["coco/AP"] <= 1
