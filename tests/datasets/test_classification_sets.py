"""The classification sets in the layouts that they come in, and what is said of what is missing."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from attn_mm.datasets.checks.classes import check_metainfo
from attn_mm.errors import UserError

pytest.importorskip("mmpretrain")

LOAD = [dict(type="attn_mm.LoadImage"), dict(type="PackInputs")]


def build(kind, root, pipeline=LOAD, **options):
    from mmpretrain.registry import DATASETS

    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return DATASETS.build(dict(type=f"attn_mm.{kind}", data_root=str(root), pipeline=pipeline, **options))


def image(seed, height=32, width=32):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def pixels(sample):
    """The sample's image (H, W, 3)."""
    return sample["inputs"].permute(1, 2, 0).numpy()


@pytest.fixture
def folders(tmp_path):
    """CIFAR-10 as folders, with a picture in each that is known by its class's place."""
    from mmpretrain.datasets.categories import CIFAR10_CATEGORIES

    for split in ("train", "test"):
        for place, name in enumerate(CIFAR10_CATEGORIES):
            write(tmp_path / split / name / "0.png", image(place))
    (tmp_path / "train" / "cat" / "notes.txt").write_text("")
    return tmp_path


def test_cifar_of_folders(folders):
    dataset = build("CIFAR10", folders, split="test", test_mode=True)
    assert len(dataset) == 10 and dataset.metainfo["classes"][3] == "cat"
    for place, sample in enumerate(dataset):
        assert sample["data_samples"].gt_label.item() == place
        assert np.array_equal(pixels(sample), image(place)), "blue comes first"


@pytest.mark.parametrize(
    ("kind", "batches", "key"),
    [
        ("CIFAR10", {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}, "labels"),
        ("CIFAR100", {"train": ["train"], "test": ["test"]}, "fine_labels"),
    ],
)
def test_cifar_of_its_archive(kind, batches, key, tmp_path, monkeypatch):
    from attn_mm.datasets import cifar

    cls = getattr(cifar, kind)
    with pytest.raises(UserError, match=f"contains neither an undamaged {cls.base_folder} nor"):
        build(kind, tmp_path)
    folder = tmp_path / cls.base_folder
    folder.mkdir()
    for names in batches.values():
        for seed, name in enumerate(names):
            rows = np.stack([image(seed).transpose(2, 0, 1).ravel(), image(9).transpose(2, 0, 1).ravel()])
            (folder / name).write_bytes(pickle.dumps({"data": rows, key: [seed, 7]}))
    with pytest.raises(UserError, match="undamaged"):
        build(kind, tmp_path)
    # Only the whole archive has its checksums.
    monkeypatch.setattr(cls, "_check_integrity", lambda self: True)
    for split, names in batches.items():
        dataset = build(kind, tmp_path, split=split)
        assert [s["data_samples"].gt_label.item() for s in dataset][:2] == [0, 7]
        assert len(dataset) == 2 * len(names)
        assert np.array_equal(pixels(dataset[1]), image(9)[..., ::-1]), "the archive's red comes first"


def test_cifar_folders_that_are_not_its_classes(folders):
    (folders / "train" / "cat").rename(folders / "train" / "tiger")
    with pytest.raises(UserError, match="train has no folder 'cat': each of the 10 classes needs one"):
        build("CIFAR10", folders)
    write(folders / "train" / "cat" / "0.png", image(3))
    with pytest.raises(UserError, match="tiger matches no class: the classes are airplane,"):
        build("CIFAR10", folders)


def test_svhn(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    with pytest.raises(UserError, match=r"train_32x32\.mat is missing"):
        build("SVHN", tmp_path)
    pictures = np.stack([image(seed) for seed in range(3)], axis=3)
    scipy_io.savemat(str(tmp_path / "test_32x32.mat"), {"X": pictures, "y": np.array([[1], [10], [9]])})
    dataset = build("SVHN", tmp_path, split="test", test_mode=True)
    assert [s["data_samples"].gt_label.item() for s in dataset] == [1, 0, 9]
    assert dataset.metainfo["classes"] == tuple("0123456789")
    assert np.array_equal(pixels(dataset[2]), image(2)[..., ::-1])
    (tmp_path / "train_32x32.mat").write_bytes(b"no matrix at all")
    with pytest.raises(UserError, match="can't be read as a MATLAB file"):
        build("SVHN", tmp_path)
    scipy_io.savemat(str(tmp_path / "train_32x32.mat"), {"Z": pictures})
    with pytest.raises(UserError, match="no images X and labels y"):
        build("SVHN", tmp_path)


def test_a_subset_of_imagenet(tmp_path):
    for place, wnid in enumerate(("n00000003", "n00000001", "n00000002")):
        for split in ("train", "val"):
            write(tmp_path / split / wnid / "0.png", image(place))
    listed = tmp_path / "meta" / "classes.txt"
    with pytest.raises(UserError, match=r"classes\.txt is missing: list the WordNet ids"):
        build("ImageNetSubset", tmp_path)
    listed.parent.mkdir()
    listed.write_text("n00000003 three, III\n\nn00000002\n")
    dataset = build("ImageNetSubset", tmp_path, split="val", test_mode=True)
    assert dataset.metainfo["classes"] == ("n00000002", "three, III")
    assert [sample["data_samples"].gt_label.item() for sample in dataset] == [0, 1]
    assert np.array_equal(pixels(dataset[0]), image(2)) and np.array_equal(pixels(dataset[1]), image(0))
    listed.write_text("n00000001 crane\nn00000002 crane\n")
    assert build("ImageNetSubset", tmp_path).metainfo["classes"] == ("n00000001", "n00000002")
    for text, message in {
        "n00000003\nthree\n": "line 2: 'three' is no WordNet id",
        "n00000003\nn00000003\n": "line 2: n00000003 is listed twice",
        "n00000003\nn00000004\n": "train has no folder n00000004",
        "\n": "lists no class",
    }.items():
        listed.write_text(text)
        with pytest.raises(UserError, match=message):
            build("ImageNetSubset", tmp_path)
    listed.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"classes\.txt is not a text file in UTF-8"):
        build("ImageNetSubset", tmp_path)
    listed.write_text("n00000002\nn00000009\n")
    (tmp_path / "train" / "n00000009").mkdir()
    with pytest.raises(UserError, match="train/n00000009 contains no image"):
        build("ImageNetSubset", tmp_path)
    with pytest.raises(ValueError, match="split must be 'train' or 'val'"):
        build("ImageNetSubset", tmp_path, split="test")


def test_two_classes_of_imagenet_have_one_name(tmp_path):
    from mmpretrain.datasets import ImageNet

    own = ImageNet(data_root=str(tmp_path), lazy_init=True)
    assert own.metainfo["classes"].count("crane") == 2
    check_metainfo(own)
    check_metainfo(build("ImageNetV2", tmp_path, lazy_init=True))
    given = ImageNet(data_root=str(tmp_path), lazy_init=True, metainfo=dict(classes=("a", "a")))
    with pytest.raises(UserError, match="classes has 'a' more than once"):
        check_metainfo(given)


def test_the_folders_of_imagenet_v2_are_numbers(tmp_path):
    classes = [f"class {label}" for label in range(12)]
    with pytest.raises(UserError, match="imagenetv2-matched-frequency-format-val is missing"):
        build("ImageNetV2", tmp_path, split="matched-frequency")
    for label in range(12):
        write(tmp_path / "imagenetv2-top-images-format-val" / str(label) / "a.png", image(label))
    dataset = build("ImageNetV2", tmp_path, metainfo=dict(classes=classes))
    assert [s["data_samples"].gt_label.item() for s in dataset] == list(range(12))
    assert np.array_equal(pixels(dataset[10]), image(10))
    with pytest.raises(UserError, match="no folder '100'"):
        build("ImageNetV2", tmp_path)
    with pytest.raises(ValueError, match="split must be one of top-images"):
        build("ImageNetV2", tmp_path, split="val")


def test_birds_are_cropped_by_their_boxes(tmp_path):
    names = [f"00{label}.Bird/{label}.png" for label in (1, 2, 3)]
    for seed, name in enumerate(names):
        write(tmp_path / "images" / name, image(seed, 40, 60))
    lines = {
        "images.txt": [f"{i} {name}" for i, name in enumerate(names, 1)],
        "image_class_labels.txt": ["1 1", "2 2", "3 3"],
        "train_test_split.txt": ["1 1", "2 0", "3 1"],
    }
    for name, rows in lines.items():
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    steps = [LOAD[0], dict(type="attn_mm.CropToBox"), LOAD[1]]
    with pytest.raises(UserError, match=r"bounding_boxes\.txt is missing"):
        build("CUBBoxes", tmp_path, steps)
    boxes = tmp_path / "bounding_boxes.txt"
    boxes.write_text("1 5.0 6.0 20.0 10.0\n2 1 1 9 9\n3 10.5 4.0 60.0 8.25\n")
    first, second = build("CUBBoxes", tmp_path, steps)
    assert np.array_equal(pixels(first), image(0, 40, 60)[6:16, 5:25])
    assert np.array_equal(pixels(second), image(2, 40, 60)[4:13, 10:60]), "rounded outwards, inside the image"
    assert second["data_samples"].gt_label.item() == 2
    boxes.write_text("1 5.0 6.0 20.0 10.0\n")
    with pytest.raises(UserError, match=r"no box for 003\.Bird/3\.png"):
        build("CUBBoxes", tmp_path, steps)


def test_stanford_dogs(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    names = ["n01-Chihuahua/n01_1.png", "n02-Japanese_spaniel/n02_5.png"]
    for seed, name in enumerate(names):
        write(tmp_path / "Images" / name, image(seed))
    cells = np.empty((2, 1), object)
    cells[:, 0] = names
    scipy_io.savemat(str(tmp_path / "test_list.mat"), {"file_list": cells, "labels": np.array([[1], [2]])})
    dataset = build("StanfordDogs", tmp_path, split="test", test_mode=True)
    assert dataset.metainfo["classes"] == ("Chihuahua", "Japanese spaniel")
    assert [s["data_samples"].gt_label.item() for s in dataset] == [0, 1]
    assert np.array_equal(pixels(dataset[1]), image(1))
    with pytest.raises(UserError, match=r"train_list\.mat is missing"):
        build("StanfordDogs", tmp_path)


@pytest.mark.parametrize("kind", ["SVHN", "StanfordDogs"])
def test_splits_that_are_not_there(kind, tmp_path):
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'val'"):
        build(kind, tmp_path, split="val")
