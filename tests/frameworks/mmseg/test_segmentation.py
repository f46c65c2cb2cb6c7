"""The command lines on segmentors: the demo from end to end, inference against mmsegmentation's own."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from pycocotools import mask as mask_utils

from attn_mm.datasets.generated.label_maps import CLASSES, PALETTE, make_label_maps
from attn_mm.errors import UserError
from attn_mm.explorer.explore import main as explore
from attn_mm.frameworks.loading import load_model
from attn_mm.frameworks.mmseg import MMSeg, demo
from attn_mm.frameworks.mmseg.cam_target import pixels_target
from attn_mm.frameworks.mmseg.draw import class_map_drawer
from attn_mm.frameworks.mmseg.logits import pixel_logits
from attn_mm.frameworks.mmseg.predict import probabilities
from attn_mm.frameworks.prediction import Prediction, View
from attn_mm.graft.probe import look_at_outputs
from attn_mm.inference.infer import main as infer
from attn_mm.run import test, train
from attn_mm.utils.config import load_config

pytest.importorskip("mmseg")

SMALL = [
    "model.backbone.backbone.depth=18",
    "model.backbone.backbone.base_channels=8",
    "model.backbone.backbone.stem_channels=8",
    "model.decode_head.in_channels=64",
    "model.decode_head.channels=16",
    "model.auxiliary_head.in_channels=32",
    "model.auxiliary_head.channels=8",
]
SHORT = ["train_cfg.max_epochs=1", "train_cfg.val_interval=1", "train_dataloader.batch_size=4"]


@pytest.fixture(scope="module")
def config() -> str:
    return "configs/segmentation/fcn-r50_td-joint_voc12aug.py"


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    return make_label_maps(tmp_path_factory.mktemp("cache"), num_train=8, num_val=6)


@pytest.fixture(scope="module")
def demo_folder(config, generated, tmp_path_factory) -> Path:
    """What a demo of two epochs leaves that was interrupted after the first."""
    work = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "make_label_maps", lambda **_: generated)
        patch.setattr("mmengine.config.config.FormatCode", lambda text, **_: (text, False))
        patch.setattr("mmengine.runner.runner.collect_env", dict)
        run = [config, "--demo", "--work-dir", str(work), "--cfg-options", *SMALL, *SHORT]
        train.main(run)
        train.main([*run, "train_cfg.max_epochs=2", "--resume"])
    return work


@pytest.fixture(scope="module")
def trained(config, demo_folder) -> tuple[str, str]:
    return str(demo_folder / Path(config).name), str(demo_folder / "epoch_2.pth")


def test_a_demo_trains_resumes_evaluates_and_draws(demo_folder):
    results = json.loads((demo_folder / "results.json").read_text())
    assert results["epoch"] == 2
    assert set(results["metrics"]) >= {"aAcc", "mIoU", "mAcc"}
    pictures = sorted(path.name for path in (demo_folder / "pictures").glob("*.jpg"))
    assert len(pictures) == 6
    assert len(list((demo_folder / "pictures/attention").glob("*.jpg"))) == 6


@pytest.fixture(scope="module")
def model(trained):
    return load_model(load_config(trained[0]), trained[1], "cpu")


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """An image that is no square and of another size than those of the training."""
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (9, 15, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(noise, (150, 90), interpolation=cv2.INTER_CUBIC))
    return path


def test_a_test_has_the_metrics_of_the_demo_and_draws(trained, demo_folder, tmp_path):
    work = ["--work-dir", str(tmp_path / "work"), "--show-dir", str(tmp_path / "shown")]
    # There is one visualizer of a name in a process, and the training had one.
    test.main([*trained, *work, "--cfg-options", "visualizer.name=of_the_test"])
    found = json.loads((tmp_path / "work/test_results.json").read_text())["metrics"]
    expected = json.loads((demo_folder / "results.json").read_text())["metrics"]
    assert {name: found[name] for name in ("aAcc", "mIoU", "mAcc")} == pytest.approx(
        {name: expected[name] for name in ("aAcc", "mIoU", "mAcc")}
    )
    assert len(list((tmp_path / "shown").rglob("*.png"))) == 6


def test_infer_gives_what_mmsegmentation_gives(trained, photo, tmp_path):
    from mmseg.apis import inference_model, init_model

    infer([*trained, str(photo), "--out", str(tmp_path), "--show-attention"])
    (result,) = json.loads((tmp_path / "predictions.json").read_text())["results"]
    cfg = load_config(trained[0])
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    sample = inference_model(init_model(cfg, trained[1], "cpu"), str(photo))
    labels = sample.pred_sem_seg.data[0].numpy()
    assert (result["height"], result["width"]) == labels.shape
    chances = sample.seg_logits.data.softmax(0).amax(0).numpy()
    assert {item["label"] for item in result["objects"]} == set(labels.ravel().tolist())
    for item in result["objects"]:
        mask = labels == item["label"]
        np.testing.assert_array_equal(mask_utils.decode(item["segmentation"]), mask)
        assert item["class"] == CLASSES[item["label"]]
        assert item["area"] == pytest.approx(mask.mean(), abs=1e-5)
        assert item["score"] == pytest.approx(chances[mask].mean(), abs=2e-5)
    scores = [item["score"] for item in result["objects"]]
    assert scores == sorted(scores, reverse=True)
    assert (tmp_path / "photo.png").is_file() and (tmp_path / "attention/photo.png").is_file()


def test_explore_shows_the_attention_and_grad_cam(trained, photo, tmp_path):
    explore([*trained, str(photo), "--out", str(tmp_path / "page")])
    shown = (tmp_path / "page/attention.json").read_text()
    assert "TD searchlight" in shown and "the pixels of" in shown


def test_a_class_is_explained_by_its_pixels(model):
    inputs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        logits = model.decode_head(model.extract_feat(inputs))
        logits = torch.nn.functional.interpolate(logits, (64, 64), mode="bilinear")
    label = int(logits.argmax(1).mode().values[0, 0])
    expected = logits[:, label][logits.argmax(1) == label].mean()
    score = pixels_target(model, inputs, label)()
    assert score.item() == pytest.approx(expected.item(), rel=1e-5)
    assert score.requires_grad
    with pytest.raises(UserError, match="no class 7: the model knows 0 to 6"):
        pixels_target(model, inputs, 7)()


def test_grad_cam_prefers_what_is_before_the_background(model):
    found = [
        {"class": "background", "label": 0, "score": 0.9},
        {"class": "star", "label": 5, "score": 0.4},
    ]
    picture = np.zeros((8, 8, 3), np.uint8)
    view = View(picture, torch.zeros(1, 3, 64, 64))
    assert MMSeg().cam_target(model, Prediction(found, picture), view)[0] == "the pixels of star, 0.40"
    assert "background" in MMSeg().cam_target(model, Prediction(found[:1], picture), view)[0]


def test_probabilities_of_each_kind_of_head():
    labels = np.array([[0, 1]])
    logits = torch.tensor([[[2.0, -1.0]], [[0.0, 1.0]]])
    np.testing.assert_allclose(probabilities(logits, labels), [[1 / (1 + np.exp(-2))] * 2], rtol=1e-6)
    sums_of_masks = torch.tensor([[[0.6, 0.1]], [[0.2, 0.3]]])
    np.testing.assert_allclose(probabilities(sums_of_masks, labels), [[0.75, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(probabilities(torch.tensor([[[0.1, 0.7]]]), labels), [[0.9, 0.7]], rtol=1e-6)


def test_a_picture_has_its_classes_colours_and_one_size_for_all():
    draw = class_map_drawer({"classes": CLASSES, "palette": PALETTE})
    image = np.full((480, 640, 3), 100, np.uint8)
    labels = np.zeros((480, 640), np.intp)
    labels[100:200, 100:200] = 5
    whole, star = draw(image, labels, [0, 5]), draw(image, labels, [5])
    assert whole.shape == star.shape and whole.shape[1] == 640 and whole.shape[0] > 480
    expected = np.rint(0.55 * np.array(PALETTE[5][::-1]) + 0.45 * 100)
    np.testing.assert_array_equal(star[150, 150], expected)
    np.testing.assert_array_equal(star[300, 300], image[300, 300])
    # The legend names the largest class first.
    swatches = [colour for colour in PALETTE if (whole[480:] == colour[::-1]).all(2).any()]
    assert swatches == [PALETTE[0], PALETTE[5]]


def test_a_demo_keeps_the_model_but_for_classes_and_sizes(config, monkeypatch, generated):
    monkeypatch.setattr(demo, "make_label_maps", lambda **_: generated)
    cfg, before = load_config(config), load_config(config)
    demo.to_demo(cfg)
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == len(CLASSES)
    assert cfg.model.data_preprocessor.size == (demo.SMALLER_SIZE,) * 2 and cfg.model.pretrained is None
    for head in ("decode_head", "auxiliary_head"):
        cfg.model[head].num_classes = before.model[head].num_classes
        assert cfg.model[head] == before.model[head]
    assert cfg.model.backbone == before.model.backbone
    assert cfg.log_processor.by_epoch


HEADS = {
    "one map": dict(type="FCNHead", in_channels=32, in_index=2),
    "several in one": dict(
        type="FCNHead", in_channels=[18, 36], in_index=(0, 1), input_transform="resize_concat"
    ),
    "several": dict(type="SegformerHead", in_channels=[8, 16, 32], in_index=[1, 2, 3]),
    "one and the first": dict(
        type="DepthwiseSeparableASPPHead", in_channels=64, in_index=3, c1_in_channels=8, c1_channels=4
    ),
}


@pytest.mark.parametrize("kind", HEADS)
def test_attention_behind_any_part_of_a_head(kind):
    head = dict(HEADS[kind], channels=16, num_classes=5, norm_cfg=dict(type="BN"))
    place = "sep_bottleneck.0.pointwise_conv" if "first" in kind else "*conv*.conv"
    graft = dict(type="attn_mm.SE", after=place)
    with DefaultScope.overwrite_default_scope("mmseg"):
        built = MODELS.build(ConfigDict(type="attn_mm.AttnHead", head=head, grafts=[graft]))
    ((shape,),) = look_at_outputs(built, [built]).values()
    assert shape[:2] == (1, 5)
    assert any("attn" in name for name, _ in built.named_parameters())


def test_pretrained_weights_of_the_model_reach_a_grafted_backbone(config):
    model = load_config(config).model
    model.backbone.backbone.depth = 18
    with DefaultScope.overwrite_default_scope("mmseg"), torch.device("meta"):
        built = MODELS.build(dict(model, pretrained="some.pth"))
    assert built.backbone.init_cfg == dict(type="Pretrained", checkpoint="some.pth")


def test_the_logits_are_those_of_a_prediction(model):
    inputs = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        (sample,) = model(inputs, mode="predict")
        torch.testing.assert_close(pixel_logits(model, inputs)[0], sample.seg_logits.data)
    with pytest.raises(UserError, match="Linear gives no map of classes"):
        pixel_logits(type("Linear", (), {"__call__": lambda *_, **__: inputs[0, 0]})(), inputs)
