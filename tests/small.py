"""Data sets and configs small enough to train and evaluate within a test."""

from __future__ import annotations

import copy
import itertools
import json
import multiprocessing
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.datasets.checks.guard import Watch
from attn_mm.errors import UserError
from attn_mm.utils.config import set_data_root, walk

_config = cache(get_config)
_numbers = itertools.count()

CLASSES = ("person", "dog")
FCOS = "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py"
FASTER_RCNN = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
PANOPTIC_FPN = "mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py"
YOLO = "mmdet::yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py"
SSD = "mmdet::pascal_voc/ssd300_voc0712.py"
VOC = "mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py"
POSE = "mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py"
# Width, height of a pose estimator's input and heatmaps.
CROP, HEATMAP = (32, 64), (8, 16)


def picture(height=48, width=64, seed=0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def coco_set(root: Path, number: int = 6) -> dict:
    """Images with a person and a dog each, in ``root/images``; returns their annotations.

    The persons have keypoints.
    """
    (root / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for index in range(number):
        name = f"{index:04d}.jpg"
        cv2.imwrite(str(root / "images" / name), picture(seed=index))
        images.append(dict(id=100 + index, file_name=name, width=64, height=48))
        for category in (1, 2):
            item = dict(
                image_id=100 + index, category_id=category, bbox=[6, 6, 36, 36], area=36 * 36, iscrowd=0
            )
            annotations.append(dict(item, id=len(annotations) + 1))
            visible = 2 * (category == 1)
            points = np.column_stack([rng.uniform(8, 40, (17, 2)).round(), np.full(17, visible)])
            annotations[-1].update(keypoints=points.ravel().tolist(), num_keypoints=17 * (category == 1))
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    return dict(images=images, annotations=annotations, categories=categories)


def voc_set(root: Path, number: int = 4) -> None:
    """Images with a person each, in ``root/VOC2007`` and ``root/VOC2012``."""
    for year in ("VOC2007", "VOC2012"):
        folders = [root / year / name for name in ("JPEGImages", "Annotations", "ImageSets/Main")]
        for folder in folders:
            folder.mkdir(parents=True)
        for index in range(number):
            cv2.imwrite(str(folders[0] / f"{index:06d}.jpg"), picture(seed=index))
            sides = "".join(
                f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), (6, 6, 42, 42))
            )
            person = f"<object><name>person</name><bndbox>{sides}</bndbox></object>"
            size = "<size><width>64</width><height>48</height></size>"
            (folders[1] / f"{index:06d}.xml").write_text(f"<annotation>{size}{person}</annotation>")
        names = "".join(f"{index:06d}\n" for index in range(number))
        for split in ("trainval", "test"):
            (folders[2] / f"{split}.txt").write_text(names)


def write_annotations(root: Path, content, name: str = "annotations.json") -> Path:
    path = root / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def _train_on(cfg: Config, root: Path, **dataset) -> None:
    """One epoch on ``root``, with the same images to evaluate on."""
    for split in ("train", "val", "test"):
        loader = cfg[f"{split}_dataloader"]
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.update(
            data_root=str(root), ann_file="annotations.json", data_prefix=dict(img="images/"), **dataset
        )
        loader.dataset.pop("bbox_file", None)
    for split in ("val", "test"):
        cfg[f"{split}_evaluator"].ann_file = str(root / "annotations.json")
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint = dict(type="CheckpointHook", interval=1)
    cfg.param_scheduler = []


def detection_config(root: Path) -> Config:
    """FCOS with few channels, on ``root``."""
    cfg = copy.deepcopy(_config(FCOS))
    cfg.model.backbone = dict(type="ResNet", depth=18, base_channels=8, frozen_stages=-1, norm_eval=False)
    cfg.model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    cfg.model.bbox_head.update(
        num_classes=len(CLASSES),
        in_channels=16,
        feat_channels=16,
        stacked_convs=1,
        norm_cfg=dict(type="GN", num_groups=4),
    )
    cfg.model.test_cfg.update(score_thr=0.0, max_per_img=10)
    _train_on(cfg, root, metainfo=dict(classes=CLASSES))
    _resize(cfg)
    return cfg


def mosaic_config(root: Path) -> Config:
    """The same FCOS, trained on YOLOX's mosaics for an epoch and then on whole images."""
    cfg = detection_config(root)
    source, size = cfg.train_dataloader.dataset, (64, 64)
    load, rest = source.pipeline[:2], source.pipeline[2:]
    source.update(pipeline=load, filter_cfg=dict(filter_empty_gt=False, min_size=16))
    mixing = [
        dict(type="Mosaic", img_scale=size, pad_val=114.0),
        dict(type="RandomAffine", scaling_ratio_range=(0.8, 1.2), border=(-32, -32)),
        dict(type="MixUp", img_scale=size, ratio_range=(0.8, 1.6), pad_val=114.0),
    ]
    cfg.train_dataloader.dataset = dict(
        type="MultiImageMixDataset", dataset=source, pipeline=[*mixing, *rest]
    )
    cfg.custom_hooks = [dict(type="YOLOXModeSwitchHook", num_last_epochs=0)]
    return cfg


def _resize(cfg: Config) -> None:
    """To the images' own size, which is smaller than the configs' filters allow."""
    for node in walk([cfg[f"{split}_dataloader"] for split in ("train", "val", "test")]):
        if node.get("type") == "Resize":
            node.scale = (64, 48)
        if "filter_cfg" in node:
            node.filter_cfg = dict(filter_empty_gt=True)


def _predict_on(cfg: Config, root: Path, classes=CLASSES) -> Config:
    for split in ("val", "test"):
        cfg[f"{split}_dataloader"].dataset.update(
            data_root=str(root),
            ann_file="annotations.json",
            data_prefix=dict(img="images/"),
            metainfo=dict(classes=classes),
        )
    _resize(cfg)
    return cfg


def faster_rcnn_config(root: Path, panoptic: bool = False) -> Config:
    """With few channels, for predictions on ``root``; or Panoptic FPN, which is the same and more."""
    cfg = copy.deepcopy(_config(PANOPTIC_FPN if panoptic else FASTER_RCNN))
    cfg.model.backbone = dict(type="ResNet", depth=18, base_channels=8)
    cfg.model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    cfg.model.rpn_head.update(in_channels=16, feat_channels=16)
    cfg.model.roi_head.bbox_roi_extractor.out_channels = 16
    cfg.model.roi_head.bbox_head.update(in_channels=16, fc_out_channels=32)
    cfg.model.test_cfg.rpn.max_per_img = 20
    if panoptic:
        cfg.model.roi_head.mask_roi_extractor.out_channels = 16
        cfg.model.roi_head.mask_head.update(in_channels=16, conv_out_channels=16, num_convs=1)
        cfg.model.semantic_head.update(in_channels=16, inner_channels=32)
        _resize(cfg)
        return cfg
    cfg.model.roi_head.bbox_head.num_classes = len(CLASSES)
    return _predict_on(cfg, root)


def yolo_config(root: Path) -> Config:
    """With few channels, for predictions on ``root``."""
    cfg = copy.deepcopy(_config(YOLO))
    cfg.model.backbone = dict(type="MobileNetV2", widen_factor=0.25, out_indices=(2, 4, 6))
    cfg.model.neck.update(in_channels=[80, 24, 8], out_channels=[16, 16, 16])
    cfg.model.bbox_head.update(in_channels=[16, 16, 16], out_channels=[16, 16, 16], num_classes=len(CLASSES))
    return _predict_on(cfg, root)


def ssd_config(root: Path) -> Config:
    """SSD300 of VOC's 20 classes, on inputs of 300 x 300."""
    cfg = copy.deepcopy(_config(SSD))
    set_data_root(cfg, str(root))
    return cfg


def save_weights(cfg: Config, path: Path, spread: float = 0.0, meta: dict | None = None) -> str:
    """Random weights; those of a detector's heads with that standard deviation, for many and varied boxes."""
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    for module in model.modules():
        if type(module).__name__ == "L2Norm":
            # mmdet leaves its weight to an initialisation that these tests don't need.
            torch.nn.init.constant_(module.weight, module.scale)
    for name, parameter in model.named_parameters():
        if spread and "head" in name:
            torch.nn.init.normal_(parameter, std=spread)
    torch.save({"state_dict": model.state_dict(), "meta": meta or {}}, path)
    return str(path)


def voc_config(root: Path) -> Config:
    """The same FCOS on VOC07+12."""
    cfg, voc = detection_config(root), copy.deepcopy(_config(VOC))
    for split in ("train", "val", "test"):
        loader = voc[f"{split}_dataloader"]
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        cfg[f"{split}_dataloader"] = loader
    cfg.val_evaluator, cfg.test_evaluator = voc.val_evaluator, voc.test_evaluator
    cfg.model.bbox_head.num_classes = 20
    set_data_root(cfg, str(root))
    _resize(cfg)
    return cfg


def pose_config(root: Path) -> Config:
    """A SimpleBaseline with few channels, on ``root``."""
    cfg = copy.deepcopy(_config(POSE))
    cfg.model.backbone = dict(type="ResNet", depth=18, stem_channels=8, base_channels=8)
    cfg.model.head.update(in_channels=64, deconv_out_channels=(8, 8, 8))
    _train_on(cfg, root)
    codec = dict(cfg.codec, input_size=CROP, heatmap_size=HEATMAP)
    cfg.model.head.decoder = codec
    for split in ("train", "val", "test"):
        for step in cfg[f"{split}_dataloader"].dataset.pipeline:
            if step.type == "TopdownAffine":
                step.input_size = CROP
            if step.type == "GenerateTarget":
                step.encoder = codec
    return cfg


def shorten(model: dict, scope: str, monkeypatch) -> None:
    """Give a config's deep ResNets a block with a projection and one without: all kinds that they have.

    The stages of an HRNet get one module, of one block a branch.
    """
    nodes = list(walk(model))
    for node in nodes:
        if "num_modules" in node:
            node.update(num_modules=1, num_blocks=(1,) * len(node["num_blocks"]))
    # These options name blocks by their place.
    if any("blocks" in node or isinstance(node.get("inflate", (0,))[0], tuple) for node in nodes):
        return
    with MODELS.switch_scope_and_registry(scope) as models:
        for node in nodes:
            if node.get("depth") not in (50, 101, 152):
                continue
            kind = "ResNet3d" if node["type"] in ("attn_mm.HaraResNet3d", "resnet3d") else node["type"]
            settings = getattr(models.get(kind), "arch_settings", {})
            if node["depth"] in settings:
                monkeypatch.setitem(settings, node["depth"], (settings[node["depth"]][0], (2, 1, 1, 1)))


def narrow(model: dict, scope: str) -> None:
    """Give a config's ResNet few of its channels, and tell the part that takes its maps."""
    backbone = model["backbone"]
    while "backbone" in backbone:
        backbone = backbone["backbone"]
    if scope == "mmaction":
        kinds, options = (
            ("attn_mm.HaraResNet3d", "ResNet2Plus1d", "ResNet3d", "ResNet3dSlowOnly"),
            ("base_channels",),
        )
    else:
        kinds, options = ("ResNet", "ResNet_CIFAR"), ("base_channels", "stem_channels")
    takers = [model.get(key) or {} for key in ("neck", "head", "cls_head")]
    taker = next((part for part in takers if "in_channels" in part), None)
    if taker is None or any(option in backbone for option in options):
        return
    if backbone["type"] in kinds:
        share = 4
        backbone.update(dict.fromkeys(options, 64 // share))
    elif backbone["type"] == "attn_mm.WideResNet":
        share = 2
        backbone["widen_factor"] //= share
    else:
        return
    channels = taker["in_channels"]
    few = channels // share if isinstance(channels, int) else [count // share for count in channels]
    taker["in_channels"] = few


def dump(cfg: Config, path: Path) -> str:
    cfg.dump(str(path))
    return str(path)


def dump_numbered(cfg: Config, folder: Path, name: str = "config") -> str:
    """Under a name of its own: mmengine keeps what belongs to a run by the config's name and the second."""
    return dump(cfg, folder / f"{name}_{next(_numbers)}.py")


def open_data(cfg: Config, *splits: str) -> None:
    """Check and build the data sets and evaluators of the splits, as a run does before it begins."""
    check_data(cfg, splits)
    watch = Watch(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for split in splits:
            watch.dataloader(Runner.build_dataloader, cfg[f"{split}_dataloader"])
            if split != "train":
                watch.evaluator(Evaluator, cfg[f"{split}_evaluator"])


def refused(cfg: Config, *splits: str) -> str:
    """The one line with which the data of the splits are refused before a run."""
    with pytest.raises(UserError) as stop:
        open_data(cfg, *splits)
    line = str(stop.value)
    assert "\n" not in line
    return line


def stopped(capfd, run, *args) -> str:
    """What a run that must end with status 2 says on stderr."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(*args)
    assert stop.value.code == 2
    # As the end of the program does; torch would wait for them.
    for worker in multiprocessing.active_children():
        worker.terminate()
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err + printed.out
    return printed.err
