"""STL-10 in both layouts, and as what a network of CIFAR-10 is tested with."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import small
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from attn_mm.datasets.checks.guard import Watch
from attn_mm.errors import UserError
from attn_mm.run import test as command
from attn_mm.utils.config import load_config

pytest.importorskip("mmpretrain")

STL = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LOAD = [dict(type="attn_mm.LoadImage"), dict(type="PackInputs")]


def build(kind, root, **options):
    from mmpretrain.registry import DATASETS

    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return DATASETS.build(dict(type=f"attn_mm.{kind}", data_root=str(root), pipeline=LOAD, **options))


@pytest.fixture(scope="module")
def pictures():
    """Two BGR images of each of STL-10's classes, by class number."""
    return {label: [small.picture(96, 96, seed=10 * n + label) for n in range(2)] for label in range(10)}


@pytest.fixture(scope="module")
def binary(tmp_path_factory, pictures):
    """The archive's form, written pixel by pixel as its page describes: red first, column by column."""
    root = tmp_path_factory.mktemp("stl")
    folder = root / "stl10_binary"
    folder.mkdir()
    for split in ("train", "test"):
        order = [
            (label, n) for n in range(2) for label in (range(10) if split == "test" else range(9, -1, -1))
        ]
        data = bytearray()
        for label, n in order:
            for channel in (2, 1, 0):
                for column in range(96):
                    data += pictures[label][n][:, column, channel].tobytes()
        (folder / f"{split}_X.bin").write_bytes(data)
        (folder / f"{split}_y.bin").write_bytes(bytes(label + 1 for label, _ in order))
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory, pictures):
    root = tmp_path_factory.mktemp("stl_folders")
    for split in ("train", "test"):
        for label, name in enumerate(STL):
            (root / split / name).mkdir(parents=True)
            for n, picture in enumerate(pictures[label]):
                assert cv2.imwrite(str(root / split / name / f"{n}.png"), picture)
    return root


def samples(dataset):
    return [(s["data_samples"].gt_label.item(), s["inputs"].permute(1, 2, 0).numpy()) for s in dataset]


def test_both_layouts_have_the_same_images(binary, folders, pictures):
    for root in (binary, binary / "stl10_binary", folders):
        for split in ("train", "test"):
            dataset = build("STL10", root, split=split)
            assert dataset.metainfo["classes"] == STL and len(dataset) == 20
            seen = dict.fromkeys(range(10), 0)
            for label, image in samples(dataset):
                assert np.array_equal(image, pictures[label][seen[label]])
                seen[label] += 1
            assert set(seen.values()) == {2}


def test_cifars_classes_are_found_by_name(binary, folders, pictures):
    for root in (binary, folders):
        dataset = build("STL10ForCIFAR10", root)
        assert dataset.metainfo["classes"] == CIFAR and len(dataset) == 18
        seen = dict.fromkeys(range(10), 0)
        for label, image in samples(dataset):
            name = "car" if CIFAR[label] == "automobile" else CIFAR[label]
            mean = pictures[STL.index(name)][seen[label]].reshape(32, 3, 32, 3, 3).mean((1, 3))
            assert np.abs(image - mean).max() <= 0.5 + 1e-6
            seen[label] += 1
        # No frogs.
        assert [seen[label] for label in range(10)] == [2, 2, 2, 2, 2, 2, 0, 2, 2, 2]


def test_cifars_classes_are_taken_by_position(binary):
    dataset = build("STL10ForCIFAR10", binary, match="position", size=48)
    assert [label for label, _ in samples(dataset)] == 2 * list(range(10))
    assert dataset[0]["inputs"].shape == (3, 48, 48)


def test_what_is_missing_or_damaged_is_told(binary, tmp_path):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    with pytest.raises(UserError, match=r"neither stl10_binary/train_X.bin nor a folder train"):
        build("STL10", tmp_path)
    (folder / "train_X.bin").write_bytes((binary / "stl10_binary/train_X.bin").read_bytes()[:-1])
    with pytest.raises(UserError, match=r"train_y.bin is missing"):
        build("STL10", tmp_path)
    (folder / "train_y.bin").write_bytes(bytes(range(1, 11)) * 2)
    with pytest.raises(UserError, match=r"train_X.bin is damaged: it isn't 20 images of 3x96x96"):
        build("STL10", tmp_path)
    (folder / "train_X.bin").write_bytes((binary / "stl10_binary/train_X.bin").read_bytes())
    (folder / "train_y.bin").write_bytes(bytes(range(10)) * 2)
    with pytest.raises(UserError, match=r"train_y.bin is damaged: its labels must be from 1 to 10"):
        build("STL10", tmp_path)
    with pytest.raises(ValueError, match="split must be"):
        build("STL10", tmp_path, split="unlabeled")
    with pytest.raises(ValueError, match="match must be"):
        build("STL10ForCIFAR10", tmp_path, match="order")
    with pytest.raises(ValueError, match="size must be a positive whole number, got 0"):
        build("STL10ForCIFAR10", binary, size=0)


@torch.no_grad()
def test_a_network_of_cifar_is_tested_on_stl(binary, pictures, tmp_path, monkeypatch, repo):
    """Table 3's STL columns: one command, against a direct computation."""
    from attn_mm.frameworks.loading import load_model

    monkeypatch.chdir(repo)
    name, depth = "configs/ltpa/rn164_ltpa-att2_200e_cifar10.py", "model.backbone.depth=11"
    cfg = load_config(name, {"model.backbone.depth": 11})
    weights = small.save_weights(cfg, tmp_path / "rn11.pth", spread=0.5)
    command.main([
        name, weights, "--work-dir", str(tmp_path), "--cfg-options", depth,
        "test_dataloader.dataset.type=attn_mm.STL10ForCIFAR10",
        f"test_dataloader.dataset.data_root={binary}",
        "test_dataloader.num_workers=0", "test_dataloader.persistent_workers=False",
    ])  # fmt: skip
    found = json.loads((tmp_path / "test_results.json").read_text())["metrics"]["accuracy/top1"]

    model, right, number = load_model(cfg, weights, "cpu"), 0, 0
    mean, std = (np.array(cfg.data_preprocessor[key]) for key in ("mean", "std"))
    for label, group in pictures.items():
        target = {"car": "automobile"}.get(STL[label], STL[label])
        for picture in group if target in CIFAR else ():
            tiny = np.rint(picture.reshape(32, 3, 32, 3, 3).mean((1, 3)))[..., ::-1]
            scores = model(torch.tensor(((tiny - mean) / std).transpose(2, 0, 1)[None], dtype=torch.float32))
            right += CIFAR[scores.argmax()] == target
            number += 1
    assert number == 18 and found == pytest.approx(100 * right / number, abs=1e-4)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_run_reads_images_that_are_in_memory(binary, split):
    """The checks of files leave such a set alone."""
    cfg = load_config("configs/ltpa/rn164_plain_200e_cifar10.py")
    data = dict(type="attn_mm.STL10", data_root=str(binary), split=split, test_mode=split == "test")
    loader = cfg[f"{split}_dataloader"]
    loader.update(dataset=dict(data, pipeline=LOAD), num_workers=0, persistent_workers=False, batch_size=4)
    watch = Watch(cfg)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        batch = next(iter(watch.dataloader(Runner.build_dataloader, loader)))
    assert [tuple(image.shape) for image in batch["inputs"]] == [(3, 96, 96)] * 4
