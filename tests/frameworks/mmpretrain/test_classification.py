"""The command lines on classifiers: ten crops against a naive reference, inference against mmpretrain's."""

from __future__ import annotations

import json
import pickle

import cv2
import numpy as np
import pytest
import small
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.errors import UserError
from attn_mm.frameworks.demo import to_demo
from attn_mm.frameworks.mmpretrain.demo import input_size
from attn_mm.inference.infer import main as infer
from attn_mm.run import test, train
from attn_mm.utils.config import load_config, walk

pytest.importorskip("mmpretrain")

CLASSES = tuple("abcdefg")
MEAN, STD = [120.0, 110.0, 100.0], [60.0, 55.0, 50.0]
SIZES = ((40, 56), (64, 48), (40, 40))
EDGE, CROP = 40, 32
LTPA = dict(
    backbone=dict(type="attn_mm.PreActResNet", depth=11, levels=(2, 3)),
    head=dict(
        type="attn_mm.LTPAHead", num_classes=len(CLASSES), local_channels=[128, 256], global_channels=256
    ),
)


@pytest.fixture
def images(tmp_path):
    """Folders of images for mmpretrain's ``CustomDataset``, and the images in its order."""
    pictures = []
    for name, size in zip(CLASSES, SIZES):
        (tmp_path / "images" / name).mkdir(parents=True)
        pictures.append(small.picture(*size, seed=len(pictures)))
        assert cv2.imwrite(str(tmp_path / "images" / name / "0.png"), pictures[-1])
    for name in CLASSES[len(SIZES) :]:
        (tmp_path / "images" / name).mkdir()
    return pictures


def config(root, **model) -> Config:
    """A small classifier in the form of the repo's own for ImageNet."""
    cfg = load_config("configs/tdaf/r50_plain_120e_in1k.py")
    cfg.model = dict(
        type="ImageClassifier",
        backbone=dict(type="ResNet", depth=18, stem_channels=8, base_channels=8),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", in_channels=64, num_classes=len(CLASSES)),
    )
    if model:
        cfg.model = dict(model, type="ImageClassifier")
    cfg.data_preprocessor.update(num_classes=len(CLASSES), mean=MEAN, std=STD)
    dataset = dict(type="CustomDataset", data_root=str(root / "images"), metainfo=dict(classes=CLASSES))
    for node in walk([cfg.test_pipeline, cfg.tta_pipeline]):
        for key in {"scale", "crop_size"} & node.keys():
            node[key] = {256: EDGE, 224: CROP}[node[key]]
    for split in ("val", "test"):
        loader = cfg[f"{split}_dataloader"]
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset = dict(dataset, pipeline=cfg.test_pipeline)
    cfg.work_dir = str(root / "work")
    return cfg


def saved(cfg, root):
    return small.dump(cfg, root / "config.py"), small.save_weights(cfg, root / "weights.pth", spread=0.5)


def network(cfg, weights):
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(dict(cfg.model, data_preprocessor=dict(type="ClsDataPreprocessor")))
    model.load_state_dict(torch.load(weights, weights_only=True)["state_dict"])
    return model.double().eval()


def probabilities(model, crops):
    """Of BGR images (n, h, w, 3), in float64."""
    pixels = (np.stack(crops)[..., ::-1].astype(np.float64) - MEAN) / STD
    with torch.no_grad():
        scores = model(torch.from_numpy(pixels).permute(0, 3, 1, 2), mode="tensor")
    return scores.softmax(1).numpy()


def resized(picture):
    """The shorter side at ``EDGE``."""
    short = min(picture.shape[:2])
    size = [side * EDGE // short for side in picture.shape[1::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)


def ten_crops(picture):
    height, width = picture.shape[:2]
    middle = round((height - CROP) / 2), round((width - CROP) / 2)
    corners = [(0, 0), (0, width - CROP), (height - CROP, 0), (height - CROP, width - CROP), middle]
    crops = [picture[top : top + CROP, left : left + CROP] for top, left in corners]
    return crops + [crop[:, ::-1] for crop in crops]


def test_ten_crops_are_averaged(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = config(tmp_path)
    model = saved(cfg, tmp_path)
    test.main([*model, "--tta", "--out", "found.pkl"])
    found = pickle.loads((tmp_path / "found.pkl").read_bytes())
    net = network(cfg, model[1])
    single = tmp_path / "single.pkl"
    test.main([*model, "--out", str(single)])
    once = pickle.loads(single.read_bytes())
    for sample, plain, picture in zip(found, once, images, strict=True):
        wanted = probabilities(net, ten_crops(resized(picture))).mean(axis=0)
        np.testing.assert_allclose(sample["pred_score"].numpy(), wanted, rtol=1e-4, atol=1e-6)
        assert not np.allclose(plain["pred_score"].numpy(), wanted, rtol=1e-3)


def test_configs_without_several_crops(images, tmp_path, capsys):
    cfg = config(tmp_path)
    cfg.pop("tta_pipeline")
    with pytest.raises(SystemExit) as stopped:
        test.main([*saved(cfg, tmp_path), "--tta"])
    assert stopped.value.code == 2
    assert "--tta needs a tta_model and a tta_pipeline" in capsys.readouterr().err


@pytest.mark.parametrize("model", [{}, LTPA], ids=["plain", "ltpa"])
def test_inference_finds_what_mmpretrain_finds(model, images, tmp_path, capsys):
    from mmpretrain import ImageClassificationInferencer

    cfg = config(tmp_path, **model)
    files = saved(cfg, tmp_path)
    source = tmp_path / "images" / "b" / "0.png"
    flags = ["--show-attention"] if model else []
    infer([*files, str(source), "--out", str(tmp_path / "out"), "--device", "cpu", *flags])
    result = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert result["classes"] == list(CLASSES) and result["score_thr"] == 0
    (record,) = result["results"]
    upstream = ImageClassificationInferencer(files[0], pretrained=files[1], device="cpu", classes=CLASSES)
    (expected,) = upstream(str(source))
    best = np.argsort(-expected["pred_scores"])[:5]
    assert [item["label"] for item in record["objects"]] == best.tolist()
    assert [item["class"] for item in record["objects"]] == [CLASSES[label] for label in best]
    scores = [item["score"] for item in record["objects"]]
    np.testing.assert_allclose(scores, expected["pred_scores"][best], atol=1e-5)
    assert "5 labels in 1 image" in capsys.readouterr().out
    drawn = cv2.imread(str(tmp_path / "out" / "0.png"))
    assert max(drawn.shape) >= 480
    assert (tmp_path / "out" / "attention" / "0.png").is_file() == bool(model)


def test_low_scores_are_left_out_where_asked(images, tmp_path):
    files = saved(config(tmp_path), tmp_path)
    source, out = tmp_path / "images" / "a" / "0.png", tmp_path / "out"
    infer([*files, str(source), "--out", str(out), "--device", "cpu", "--score-thr", "0.999"])
    (record,) = json.loads((out / "predictions.json").read_text())["results"]
    assert all(item["score"] >= 0.999 for item in record["objects"]) and len(record["objects"]) < 5


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tam/r18_plain_300e_cifar10", 32),
        ("tam/r18_plain_160e_svhn", 32),
        ("ltpa/vgg_plain_290e_cub", 80),
        ("td/r18_plain_125e_in1k", 64),
    ],
)
def test_the_demo_has_images_of_the_configs_size(name, size, small_demos):
    cfg = load_config(f"configs/{name}.py")
    assert input_size(cfg) == size
    to_demo(cfg)
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == 6
    assert cfg.load_from is None
    assert cfg.train_dataloader.dataset.ann_file != cfg.val_dataloader.dataset.ann_file


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("td/r18_plain_125e_in1k", "data/imagenet/train"),
        ("tam/r18_plain_300e_cifar10", "data/cifar10"),
        ("tam/r18_plain_160e_svhn", "data/svhn"),
    ],
)
def test_sets_that_are_not_there(name, missing, tmp_path, monkeypatch):
    cfg = load_config(f"configs/{name}.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"{missing}.* is missing: put the data set there"):
        check_data(cfg, ("train",))


def test_weights_to_start_from_that_are_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        train.main(["configs/ltpa/vgg_plain_290e_cub.py"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "error: checkpoint work_dirs/vgg_plain_300e_cifar100/epoch_300.pth does not exist"


def test_a_demo_learns_to_its_end(tmp_path, small_demos):
    work = tmp_path / "work"
    options = ["train_cfg.max_epochs=1", "train_cfg.val_interval=1", "train_dataloader.batch_size=4"]
    config = "configs/ltpa/rn164_ltpa-att2_200e_cifar10.py"
    shallow = ["model.backbone.depth=11"]
    train.main([config, "--demo", "--work-dir", str(work), "--cfg-options", *options, *shallow])
    assert 0 <= json.loads((work / "results.json").read_text())["metrics"]["accuracy/top1"] <= 100
    assert len(list((work / "pictures").glob("*.jpg"))) == 6
    assert len(list((work / "pictures" / "attention").glob("*.jpg"))) == 6


def test_a_training_skips_what_is_no_image(tmp_path):
    from mmpretrain.datasets.categories import CIFAR10_CATEGORIES

    root = tmp_path / "cifar"
    for split in ("train", "test"):
        for place, name in enumerate(CIFAR10_CATEGORIES):
            (root / split / name).mkdir(parents=True)
            assert cv2.imwrite(str(root / split / name / "0.png"), small.picture(32, 32, seed=place))
    (root / "train" / "cat" / "1.png").write_text("no image")
    loaders = [
        f"{split}_dataloader.{key}"
        for split in ("train", "val")
        for key in ("batch_size=5", "num_workers=0", "persistent_workers=False")
    ]
    train.main(
        [
            "configs/ltpa/rn164_plain_200e_cifar10.py",
            "--data-root",
            str(root),
            "--work-dir",
            str(tmp_path / "work"),
            "--cfg-options",
            "model.backbone.depth=11",
            "train_cfg.max_epochs=1",
            *loaders,
        ]
    )
    (log,) = (tmp_path / "work").rglob("*.log")
    lines = [line for line in log.read_text().splitlines() if "cat/1.png can't be read as an image" in line]
    assert len(lines) == 1 and lines[0].endswith("training continues without it")
    assert (tmp_path / "work" / "epoch_1.pth").is_file()
