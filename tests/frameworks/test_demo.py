"""``--demo`` on configs of several kinds: what it changes, what it leaves, and that it runs to its end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from attn_mm.datasets.generated import motions
from attn_mm.datasets.generated.shapes import CLASSES
from attn_mm.errors import UserError
from attn_mm.frameworks.demo import to_demo
from attn_mm.frameworks.mmaction import demo as action
from attn_mm.frameworks.mmdet import MMDet, small_images
from attn_mm.frameworks.mmdet import demo as detection
from attn_mm.frameworks.mmdet.demo import IMAGE_SIZE
from attn_mm.frameworks.mmpose import demo as pose
from attn_mm.run import train
from attn_mm.utils.config import walk

COCO_POSE = "mmpose::body_2d_keypoint/topdown_heatmap/coco"
SIMPLE_BASELINE = f"{COCO_POSE}/td-hm_res50_8xb64-210e_coco-256x192.py"
FASTER_RCNN = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
SSD = "mmdet::ssd/ssd300_coco.py"
SSD_VOC = "mmdet::pascal_voc/ssd300_voc0712.py"
SSD_LITE = "mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py"
TSN = "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"
TSM = "mmaction::recognition/tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb.py"
SLOWONLY = "mmaction::recognition/slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb.py"
RESNET = ["model.backbone.depth=18", "model.backbone.base_channels=8"]
DETECTOR = [*RESNET, "model.neck.in_channels=[8,16,32,64]"]
SIMCC = "mmpose::body_2d_keypoint/simcc/coco/simcc_res50_8xb64-210e_coco-256x192.py"
RTMPOSE = "mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-s_8xb256-420e_coco-256x192.py"
YOLOX = "mmdet::yolox/yolox_tiny_8xb8-300e_coco.py"
X3D = "mmaction::recognition/x3d/x3d_s_13x6x1_facebook-kinetics400-rgb.py"
RUNS = {
    "faster_rcnn": (FASTER_RCNN, DETECTOR),
    "mask_rcnn": (
        "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
        [*DETECTOR, "model.roi_head.mask_head.num_convs=1"],
    ),
    "retinanet": ("mmdet::retinanet/retinanet_r50_fpn_1x_coco.py", DETECTOR),
    "pose": (
        SIMPLE_BASELINE,
        [*RESNET, "model.head.in_channels=64", "model.head.deconv_out_channels=(8,8,8)"],
    ),
    "simcc": (SIMCC, [*RESNET, "model.head.in_channels=64"]),
    "action": (SLOWONLY, [*RESNET, "model.cls_head.in_channels=64"]),
    "action_2d": (TSN, ["model.backbone.depth=18", "model.cls_head.in_channels=512"]),
}
"""Upstream's config and what makes its network small."""


pytestmark = pytest.mark.usefixtures("small_demos")


@pytest.fixture
def config(tmp_path):
    """A config file of our own upon an upstream one."""

    def write(base: str) -> Path:
        path = tmp_path / "config.py"
        path.write_text(f"_base_ = '{base}'\n")
        return path

    return write


@pytest.fixture
def demo(config):
    def make(base: str) -> Config:
        cfg = Config.fromfile(config(base))
        to_demo(cfg)
        return cfg

    return make


# The demos of this package's own configs of these networks are in test_every_config.
OURS = ("faster_rcnn", "mask_rcnn", "retinanet", "action_2d")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.whole if kind in OURS else ()) for kind in RUNS]
)
def test_demo_of_an_upstream_config(kind, config, tmp_path):
    options = [
        "train_cfg.max_epochs=1",
        "train_cfg.val_interval=1",
        "train_dataloader.batch_size=2",
        "train_dataloader.dataset.indices=4",
    ]
    base, small = RUNS[kind]
    work, options = tmp_path / "work", options + small
    train.main([str(config(base)), "--demo", "--work-dir", str(work), "--cfg-options", *options])
    results = json.loads((work / "results.json").read_text())
    assert results["epoch"] == 1
    assert (work / "epoch_1.pth").is_file()
    assert len(list((work / "pictures").glob("*.jpg"))) == 6
    if kind.startswith("action"):
        assert len(list((work / "pictures").glob("*.mp4"))) == 6
        figures = results["metrics"]
        assert {"acc/top1", "acc/top1_shuffled_frames"} < set(figures)
        of_classes = [figures[f"acc/{name}"] for name in motions.CLASSES[:6]]
        assert np.mean(of_classes) == pytest.approx(figures["acc/top1"])


def test_the_model_stays_but_for_classes_and_origin(repo):
    path = repo / "configs/fcos_tdaf_r50.py"
    before, cfg = Config.fromfile(path), Config.fromfile(path)
    to_demo(cfg)
    assert cfg.model.bbox_head.num_classes == len(CLASSES)
    cfg.model.bbox_head.num_classes = before.model.bbox_head.num_classes
    forget_origin(before.model, cfg.model)
    assert cfg.model == before.model


def forget_origin(*models) -> None:
    for model in models:
        for node in walk(model):
            for key in ("init_cfg", "frozen_stages"):
                node.pop(key, None)


def test_evaluation_is_on_held_out_images_of_the_demo_size(repo):
    cfg = Config.fromfile(repo / "configs/fcos_tdaf_r50.py")
    to_demo(cfg)
    assert cfg.train_dataloader.dataset.ann_file != cfg.val_dataloader.dataset.ann_file
    assert cfg.val_evaluator.ann_file.endswith(cfg.val_dataloader.dataset.ann_file)
    sizes = [step.scale for step in cfg.train_dataloader.dataset.pipeline if step.type == "Resize"]
    assert sizes == [(detection.IMAGE_SIZE, detection.IMAGE_SIZE)]


def test_two_stages_share_small_anchors_and_few_rois(demo):
    model = demo(FASTER_RCNN).model
    # 16 to 256 pixels where the config has 32 to 512, RoIs of up to 56 on the finest map.
    assert model.rpn_head.anchor_generator.scales == [4]
    assert model.roi_head.bbox_roi_extractor.finest_scale == 28
    assert model.train_cfg.rcnn.sampler.num == small_images.TRAINED_ROIS
    assert (
        model.train_cfg.rpn_proposal.max_per_img == model.test_cfg.rpn.max_per_img == small_images.TESTED_ROIS
    )
    assert model.train_cfg.rpn.sampler.num == 256


def test_a_demo_that_would_learn_nothing_is_refused(repo, config, tmp_path, capsys):
    for path in (config(SSD), repo / "configs/aw/ssd300-vgg16_aw-neck-aw_voc.py"):
        with pytest.raises(SystemExit, match="2"):
            train.main([str(path), "--demo", "--work-dir", str(tmp_path / "work")])
        said = capsys.readouterr().err.splitlines()[-1]
        assert "needs its ImageNet weights: from scratch " in said
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("base", [SSD, SSD_VOC, SSD_LITE])
def test_ssd_keeps_the_levels_that_fit(demo, config, base):
    """Its maps are the anchor generator's, and its anchors the same part of the image as before."""
    from mmdet.registry import MODELS, TASK_UTILS

    cfg = demo(base)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(cfg.model).eval()
        before = TASK_UTILS.build(Config.fromfile(config(base)).model.bbox_head.anchor_generator)
    with torch.no_grad():
        maps = model.extract_feat(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE))
    generator = model.bbox_head.prior_generator
    assert len(maps) == generator.num_levels == (3 if base == SSD_LITE else 4)
    for level, found in enumerate(maps):
        assert found.shape[1] == cfg.model.bbox_head.in_channels[level]
        assert [IMAGE_SIZE // stride for stride in generator.strides[level]] == list(found.shape[2:])
        here, there = generator.base_anchors[level], before.base_anchors[level]
        size, full_size = (anchors[:, 2:] - anchors[:, :2] for anchors in (here, there))
        torch.testing.assert_close(size / IMAGE_SIZE, full_size / before.strides[-1][0])


def test_a_pose_config_keeps_its_model_but_for_the_heatmaps_size(demo, config):
    cfg, before = demo(SIMPLE_BASELINE), Config.fromfile(config(SIMPLE_BASELINE))
    codec = cfg.model.head.pop("decoder")
    whole = before.model.head.pop("decoder")
    assert codec.input_size == pose.INPUT_SIZE
    assert [side // map_side for side, map_side in zip(codec.input_size, codec.heatmap_size)] == [4, 4]
    assert (whole.input_size, whole.heatmap_size) == ((192, 256), (48, 64))
    forget_origin(before.model, cfg.model)
    assert cfg.model == before.model
    for split in ("train", "val"):
        steps = {step.type: step for step in cfg[f"{split}_dataloader"].dataset.pipeline}
        assert steps["TopdownAffine"].input_size == codec.input_size
        assert ("GenerateTarget" in steps) == (split == "train")
    assert "bbox_file" not in cfg.val_dataloader.dataset


def test_heads_of_vectors_learn_from_more_persons(demo, monkeypatch):
    asked, make = [], pose.make_persons
    monkeypatch.setattr(pose, "make_persons", lambda num_train: asked.append(num_train) or make(num_train))
    demo(SIMPLE_BASELINE)
    demo(SIMCC)
    assert asked == [pose.IMAGES, pose.SIMCC_IMAGES]
    assert pose.IMAGES < pose.SIMCC_IMAGES


@pytest.mark.parametrize("base", [SIMCC, RTMPOSE])
def test_a_simcc_head_fits_the_demos_input(demo, config, base):
    head, whole = demo(base).model.head, Config.fromfile(config(base)).model.head
    assert tuple(head.input_size) == tuple(head.decoder.input_size) == pose.INPUT_SIZE
    assert head.in_featuremap_size == tuple(side // 32 for side in pose.INPUT_SIZE)
    # The Gaussian of a target is as wide a part of the axis as before.
    sigmas = [np.broadcast_to(one.decoder.sigma, 2) / one.decoder.input_size for one in (head, whole)]
    assert np.allclose(*sigmas) or isinstance(whole.decoder.sigma, float)


def test_a_test_only_config_gets_a_validation(demo):
    cfg = demo(X3D)
    assert cfg.val_dataloader and cfg.val_evaluator and "val_cfg" in cfg


def test_averaged_weights_are_evaluated_and_drawn(config, tmp_path, monkeypatch):
    """YOLOX, whose hooks end its mosaics and average its weights."""
    work, drawn = tmp_path / "work", []
    predictor = MMDet.predictor
    monkeypatch.setattr(
        MMDet, "predictor", lambda self, model, *args: drawn.append(model) or predictor(self, model, *args)
    )
    options = [
        "train_cfg.max_epochs=2",
        "train_cfg.val_interval=2",
        "train_dataloader.batch_size=4",
        "custom_hooks.0.num_last_epochs=0",
        "model.backbone.widen_factor=0.125",
        "model.neck.in_channels=[32,64,128]",
        "model.neck.out_channels=16",
        "model.bbox_head.in_channels=16",
        "model.bbox_head.feat_channels=16",
    ]
    train.main([str(config(YOLOX)), "--demo", "--work-dir", str(work), "--cfg-options", *options])
    (log,) = work.glob("*/*.log")
    first, second = log.read_text().split("No mosaic and mixup aug now!")
    assert "Epoch(train) [1]" in first.replace("  ", " ") and "Epoch(train) [2]" in second.replace("  ", " ")
    saved = torch.load(work / "epoch_2.pth", weights_only=False)
    weights = drawn[0].state_dict()
    assert all(torch.equal(value, saved["state_dict"][key]) for key, value in weights.items())
    trained = saved["ema_state_dict"]
    assert any(not torch.equal(value, trained[f"module.{key}"]) for key, value in weights.items())


def test_targets_decode_to_the_annotated_places(demo):
    """Encoded and decoded again, a keypoint comes back to within a cell of its heatmap."""
    from mmpose.registry import DATASETS, KEYPOINT_CODECS

    cfg = demo(SIMPLE_BASELINE)
    dataset = dict(cfg.train_dataloader.dataset)
    dataset["pipeline"] = [step for step in dataset["pipeline"] if step.type != "RandomFlip"]
    with DefaultScope.overwrite_default_scope("mmpose"):
        dataset = DATASETS.build(dataset)
        codec = KEYPOINT_CODECS.build(cfg.model.head.decoder)
    for index in range(len(dataset)):
        sample = dataset[index]["data_samples"]
        found, _ = codec.decode(sample.gt_fields.heatmaps.numpy())
        scale = sample.metainfo["input_scale"] / np.array(codec.input_size)
        places = sample.metainfo["input_center"] + scale * (found[0] - np.array(codec.input_size) / 2)
        seen = sample.gt_instances.keypoints_visible[0] > 0
        assert seen.any()
        distances = np.abs(places - sample.gt_instances.keypoints[0]) / scale
        assert distances[seen].max() < codec.scale_factor.max()


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            "mmpose::body_2d_keypoint/topdown_regression/coco/td-reg_res50_8xb64-210e_coco-256x192.py",
            "Regression",
        ),
        (
            "mmpose::body_2d_keypoint/topdown_heatmap/mpii/td-hm_res50_8xb64-210e_mpii-256x256.py",
            "predicts 16",
        ),
        ("mmpose::body_2d_keypoint/dekr/coco/dekr_hrnet-w32_8xb10-140e_coco-512x512.py", "top-down"),
    ],
)
def test_poses_that_the_demo_cannot_serve(demo, base, message):
    with pytest.raises(UserError, match=message):
        demo(base)


@pytest.mark.parametrize("base", [TSN, TSM, SLOWONLY])
def test_an_action_config_keeps_its_model_but_for_classes_and_frames(demo, config, base):
    cfg, before = demo(base), Config.fromfile(config(base))
    assert cfg.model.cls_head.pop("num_classes") == len(motions.CLASSES)
    assert before.model.cls_head.pop("num_classes") == 400
    assert cfg.model.cls_head.pop("average_clips") == before.model.cls_head.pop("average_clips") == "prob"
    for node in walk(cfg.model):
        if "num_segments" in node:
            assert node.pop("num_segments") == motions.NUM_FRAMES
    for model in (cfg.model, before.model):
        for node in walk(model):
            for key in ("pretrained", "num_segments", "norm_eval"):
                node.pop(key, None)
    assert cfg.model == before.model


@pytest.mark.parametrize(("base", "shape"), [(TSN, (16, 3, 44, 44)), (SLOWONLY, (1, 3, 16, 44, 44))])
def test_a_recogniser_sees_every_frame_in_its_order(demo, base, shape):
    from mmaction.registry import DATASETS

    from attn_mm.datasets.video import read_frames

    with DefaultScope.overwrite_default_scope("mmaction"):
        dataset = DATASETS.build(demo(base).val_dataloader.dataset)
    for index in range(3):
        sample = dataset[index]
        assert sample["inputs"].shape == shape
        assert sample["data_samples"].gt_label.item() == index
        frames = read_frames(dataset.get_data_info(index)["filename"])
        seen = sample["inputs"].movedim(-3 if len(shape) == 4 else -4, -1).reshape(frames.shape)
        assert np.array_equal(seen, frames)


class Recorder(torch.nn.Module):
    """Names the class 0, and keeps what it is shown."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def val_step(self, batch):
        self.shown += batch["inputs"]
        return [sample.set_pred_label(0) for sample in batch["data_samples"]]


@pytest.mark.parametrize("base", [TSN, SLOWONLY])
def test_the_control_has_the_same_frames_in_another_order(demo, base):
    model = Recorder()
    found = action.examine(model, demo(base))
    in_order, shuffled = model.shown[:6], model.shown[6:]
    assert len(shuffled) == 6
    for one, other in zip(in_order, shuffled, strict=True):
        one, other = (clip.movedim(2, 1).flatten(0, 1) if base == SLOWONLY else clip for clip in (one, other))
        assert len(one) == motions.NUM_FRAMES
        assert not torch.equal(one, other)
        places = [next(k for k, frame in enumerate(one) if torch.equal(frame, seen)) for seen in other]
        assert sorted(places) == list(range(motions.NUM_FRAMES))
    # One video each of the first six classes.
    assert found.pop("acc/top1_shuffled_frames") == pytest.approx(1 / 6)
    assert found == {f"acc/{name}": float(label == 0) for label, name in enumerate(motions.CLASSES[:6])}


def test_an_action_config_without_frames(demo):
    with pytest.raises(UserError, match=r"one of Recognizer3D, Recognizer2D; .* is RecognizerGCN"):
        demo("mmaction::skeleton/stgcn/stgcn_8xb16-joint-u100-80e_ntu60-xsub-keypoint-2d.py")


def test_frameworks_without_a_demo():
    with pytest.raises(UserError, match="is for mmfoo; --demo knows the configs of mmdet, mmpose, "):
        to_demo(Config(dict(default_scope="mmfoo", model=dict())))
