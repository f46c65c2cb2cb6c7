"""Multi-label and WS-DAN configs with the tools: demo, real images, inference, bad data."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

pytest.importorskip("mmpretrain.models")

from attn_mm.datasets.generated.shapes import CLASSES
from attn_mm.frameworks.demo import to_demo
from attn_mm.inference import infer
from attn_mm.run import test, train

SIZE = 64
SHRUNK = dict(depth=18, base_channels=16, stem_channels=16, init_cfg=None)
SCALE = "pipeline.1.scale=(64,64)"
FLAGS = [f"{split}_dataloader.dataset.{SCALE}" for split in ("train", "val", "test")]
FLAGS += ["train_dataloader.dataset.pipeline.2.shape=32"]
FLAGS += [f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")]
FLAGS += [f"{split}_dataloader.persistent_workers=False" for split in ("train", "val", "test")]
FLAGS += ["train_dataloader.batch_size=2", "train_dataloader.dataset.indices=4"]
FLAGS += [f"{split}_dataloader.dataset.indices=6" for split in ("val", "test")]


@pytest.fixture
def config(repo, tmp_path):
    """A config file that makes one of the repo's small."""

    def write(name: str, **model) -> str:
        path = tmp_path / f"small_{Path(name).name}"
        path.write_text(f"_base_ = '{repo / 'configs' / name}'\nmodel = {model!r}\n")
        return str(path)

    return write


def multilabel(config):
    return config("td/r50_plain_asl_coco.py", backbone=SHRUNK, head=dict(in_channels=128))


def metrics(folder, name="results.json"):
    found = json.loads((Path(folder) / name).read_text())["metrics"]
    return {key.removeprefix("multi-label/"): value for key, value in found.items()}


def test_a_demo_ends_with_labels_on_pictures(config, tmp_path, small_demos):
    train.main([multilabel(config), "--demo", "--work-dir", str(tmp_path / "run")])
    found = metrics(tmp_path / "run")
    assert {"mAP", "f1-score", "f1-score_micro"} <= found.keys()
    content = json.loads((tmp_path / "run" / "pictures" / "predictions.json").read_text())
    assert content["classes"] == list(CLASSES) and content["score_thr"] == 0.5
    assert len(content["results"]) == 6
    assert all(item["score"] >= 0.5 for record in content["results"] for item in record["objects"])


def test_real_images_train_and_are_evaluated(config, tmp_path, coco_tiny):
    path = multilabel(config)
    flags = ["--data-root", str(coco_tiny), "--work-dir", str(tmp_path), "--cfg-options", *FLAGS]
    train.main([path, "--no-pretrained", *flags, "train_cfg.max_epochs=1"])
    checkpoint = str(tmp_path / "epoch_1.pth")
    trained = metrics(tmp_path)
    test.main([path, checkpoint, *flags])
    # Adam has hardly begun: the averaged weights are what both evaluate.
    assert metrics(tmp_path, "test_results.json") == pytest.approx(trained)
    assert {"mAP", "precision", "recall", "f1-score_micro", "f1-score_thr-0.80_micro"} <= trained.keys()


def test_labels_above_the_threshold_are_drawn(config, tmp_path, small_demos):
    path = multilabel(config)
    cfg = Config.fromfile(path)
    to_demo(cfg)
    cfg.dump(str(tmp_path / "demo.py"))
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    torch.nn.init.zeros_(model.head.fc.weight)
    scores = torch.tensor([0.9, 0.1, 0.6, 0.3, 0.49, 0.7])
    model.head.fc.bias.data = scores.logit()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    image = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), image)

    def labels(*flags):
        out = tmp_path / "out"
        paths = [str(tmp_path / name) for name in ("demo.py", "model.pth", "noise.png")]
        infer.main([*paths, "--out", str(out), "--device", "cpu", *flags])
        assert cv2.imread(str(out / "noise.png")).shape == (320, 480, 3)
        (record,) = json.loads((out / "predictions.json").read_text())["results"]
        return [(item["class"], item["score"]) for item in record["objects"]]

    likely = [(CLASSES[0], 0.9), (CLASSES[5], 0.7), (CLASSES[2], 0.6)]
    assert labels() == likely
    assert labels("--score-thr", "0.65") == likely[:2]
    assert len(labels("--score-thr", "0")) == 6


def test_the_object_of_wsdan_is_drawn(config, tmp_path, small_demos):
    path = config("td/wsdan-r50_plain_cub.py", backbone=SHRUNK, head=dict(in_channels=128, parts=4))
    cfg = Config.fromfile(path)
    to_demo(cfg)
    cfg.dump(str(tmp_path / "demo.py"))
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    meta = {"dataset_meta": {"classes": CLASSES}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, tmp_path / "model.pth")
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((80, 80, 3), 128, np.uint8))
    paths = [str(tmp_path / name) for name in ("demo.py", "model.pth", "grey.png")]
    infer.main([*paths, "--out", str(tmp_path / "out"), "--device", "cpu", "--show-attention"])
    assert (tmp_path / "out" / "attention" / "grey.png").is_file()
    (record,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["results"]
    assert sum(item["score"] for item in record["objects"]) <= 1 + 1e-4


@pytest.mark.parametrize("name", ["td/r50_plain_asl_coco.py", "td/wsdan-r50_plain_cub.py"])
def test_missing_data_is_named_in_one_line(repo, tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        train.main([str(repo / "configs" / name), "--no-pretrained"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and str(tmp_path / "data") in said and "--data-root" in said


def test_an_image_that_is_none_is_left_out(config, tmp_path, coco_tiny):
    root = tmp_path / "coco"
    for split in ("train2017", "val2017"):
        (root / split).mkdir(parents=True)
        for path in sorted((coco_tiny / split).iterdir()):
            (root / split / path.name).symlink_to(path)
    (root / "annotations").symlink_to(coco_tiny / "annotations")
    content = json.loads((root / "annotations" / "instances_train2017.json").read_text())
    annotated = {annotation["image_id"] for annotation in content["annotations"]}
    first = next(image["file_name"] for image in content["images"] if image["id"] in annotated)
    (root / "train2017" / first).unlink()
    (root / "train2017" / first).write_text("no image")
    flags = ["--data-root", str(root), "--work-dir", str(tmp_path / "run"), "--cfg-options", *FLAGS]
    train.main([multilabel(config), "--no-pretrained", *flags, "train_cfg.max_epochs=1"])
    (log,) = (tmp_path / "run").rglob("*.log")
    assert log.read_text().count(f"{first} can't be read as an image") == 1
