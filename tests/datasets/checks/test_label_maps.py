"""Label maps of semantic segmentation that crash a training, or that its metrics leave out in silence."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image
from small import picture, refused
from torch import nn

from attn_mm.datasets.checks.classes import check_heads
from attn_mm.datasets.checks.label_maps import watch_label_maps
from attn_mm.errors import UserError

pytest.importorskip("mmseg.datasets")

CLASSES = ("sky", "road", "car")
STEPS = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"), dict(type="PackSegInputs")]


def config(root, **dataset) -> Config:
    options = dict(
        type="BaseSegDataset",
        data_root=str(root),
        data_prefix=dict(img_path="images", seg_map_path="maps"),
        metainfo=dict(classes=CLASSES),
        pipeline=STEPS,
        **dataset,
    )
    loader = dict(batch_size=1, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False))
    return Config(dict(default_scope="mmseg", model=dict(), train_dataloader=dict(loader, dataset=options)))


@pytest.fixture
def root(tmp_path):
    """Two images of 64 x 48 pixels, and their label maps of all classes and ignored pixels."""
    for folder in ("images", "maps"):
        (tmp_path / folder).mkdir()
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"images/{name}.jpg"), picture())
        save(tmp_path, labels(), name)
    return tmp_path


def labels() -> np.ndarray:
    found = np.zeros((48, 64), np.uint8)
    found[:8], found[8:16], found[16:20] = 1, 2, 255
    return found


def save(root, array, name="b"):
    Image.fromarray(array).save(root / f"maps/{name}.png")


def changed(value, dtype=np.uint8):
    found = labels().astype(dtype)
    found[40, :5] = value
    return found


def test_good_maps_pass(root):
    with DefaultScope.overwrite_default_scope("mmseg"):
        dataset = DATASETS.build(config(root).train_dataloader.dataset)
    watch_label_maps(dataset)
    found = dataset[1]["data_samples"].gt_sem_seg.data[0].numpy()
    np.testing.assert_array_equal(found, labels())


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (changed(7), "has the value 7 (5 pixels), but 3 classes are 0 to 2 and 255 for ignored pixels"),
        (changed(256, np.uint16), "has values up to 256, and mmsegmentation reads 0 to 255: renumber them"),
        (labels()[:, :60], "has 60 x 48 pixels, and its image 64 x 48: they must be of one size"),
        (np.dstack([labels()] * 3), "is a picture in colours (RGB): a label map has one channel"),
    ],
    ids=["value", "16 bits", "size", "colours"],
)
def test_a_map_that_does_not_fit_is_named(root, spoiled, said):
    save(root, spoiled)
    line = refused(config(root), "train")
    assert line.startswith(f"{root}/maps/b.png {said}") and len(line) - len(str(root)) < 200


def test_a_map_that_is_missing_or_damaged_is_named(root):
    (root / "maps/b.png").write_bytes(b"no picture")
    assert refused(config(root), "train").startswith(f"{root}/maps/b.png can't be read as a label map")
    (root / "maps/b.png").unlink()
    assert refused(config(root), "train").startswith(f"{root}/maps/b.png: no such label map")


def test_images_of_another_suffix_are_named(root):
    line = refused(config(root, img_suffix=".tif"), "train")
    assert line.startswith(f"{root}/images has no image of suffix .tif: correct img_suffix")


def test_a_map_beyond_the_sample_stops_the_run_when_it_is_loaded(root, monkeypatch):
    monkeypatch.setattr("attn_mm.datasets.checks.label_maps._SAMPLES", 1)
    save(root, changed(3))
    with DefaultScope.overwrite_default_scope("mmseg"):
        dataset = DATASETS.build(config(root).train_dataloader.dataset)
    watch_label_maps(dataset)
    with pytest.raises(UserError, match=r"b\.png has the value 3"):
        dataset[1]


class Head(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.num_classes = classes


@pytest.mark.parametrize("name", ["decode_head", "auxiliary_head"])
def test_heads_with_another_number_of_classes_are_named(name):
    dataset = type("Dataset", (), {"metainfo": {"classes": CLASSES}, "ann_file": "train.txt"})()
    model = nn.Module()
    model.add_module(name, nn.ModuleList([Head(3), Head(3)]))
    check_heads(model, dataset)
    model.add_module(name, nn.ModuleList([Head(3), Head(19)]))
    with pytest.raises(UserError, match=rf"model\.{name}\.1\.num_classes is 19, but .* has 3 classes"):
        check_heads(model, dataset)
