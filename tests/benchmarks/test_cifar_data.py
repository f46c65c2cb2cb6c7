"""CIFAR-10 in memory: what is read, what is kept, and that batches are what the pipeline would make."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope

from attn_mm.errors import UserError
from attn_mm.utils.config import set_data_root

pytest.importorskip("mmpretrain")


@pytest.fixture
def data(importable):
    from benchmarks import cifar_data

    return cifar_data


@pytest.fixture
def cfg(repo):
    return Config.fromfile(repo / "configs/_base_/datasets/cifar10.py")


@pytest.fixture
def root(few_images, tmp_path):
    return shutil.copytree(few_images, tmp_path / "set")


def read(data, cfg, root, cache):
    set_data_root(cfg, str(root))
    return data.read_cifar(cfg, cache)


@pytest.mark.parametrize("channels_last", [False, True])
def test_batches_are_those_of_the_pipeline(data, cfg, channels_last, monkeypatch):
    draw = np.random.default_rng(0)
    count, samples = 10, 40
    images = draw.integers(0, 256, (count, 32, 32, 3), np.uint8)
    index, offsets = draw.integers(0, count, samples), draw.integers(0, 9, (samples, 2))
    flips = draw.random(samples) < 0.5
    # Corners of the padded image, too.
    offsets[:4] = (0, 0), (0, 8), (8, 0), (8, 8)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        crop, flip, _ = (TRANSFORMS.build(step) for step in cfg.train_pipeline[1:])
        preprocess = MODELS.build(dict(cfg.data_preprocessor, type="ClsDataPreprocessor"))
    assert flip.prob == 0.5
    expected = []
    for image, (top, left), flipped in zip(images[index], offsets.tolist(), flips):
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
        monkeypatch.setattr(
            crop, "rand_crop_params", lambda img, top=top, left=left: (top, left, *crop.crop_size)
        )
        flip.prob = float(flipped)
        found = flip(crop(dict(img=image, img_shape=image.shape[:2])))["img"]
        assert found.shape == (32, 32, 3) and padded.shape == (40, 40, 3)
        expected.append(torch.from_numpy(np.ascontiguousarray(found.transpose(2, 0, 1))))
    expected = preprocess(dict(inputs=torch.stack(expected)))["inputs"]
    batches = data.Batches(
        data.Split(images, np.arange(count)), cfg.data_preprocessor, torch.device("cpu"), channels_last
    )
    x = batches.augmented(*map(torch.from_numpy, (index, offsets, flips)))
    assert torch.equal(x, expected)
    assert x.is_contiguous(memory_format=torch.channels_last) == channels_last
    whole = preprocess(dict(inputs=torch.from_numpy(images[3:7].transpose(0, 3, 1, 2))))["inputs"]
    assert torch.equal(batches.whole(3, 7), whole)


def test_the_cache_is_of_these_files(data, cfg, root, tmp_path):
    cache = tmp_path / "cifar10.npz"
    train, test = read(data, cfg, root, cache)
    assert len(train) == 20 and len(test) == 10
    assert train.labels.tolist() == [i // 2 for i in range(20)]
    picture = root / "train" / "airplane" / "0.png"
    other, before = root / "train" / "airplane" / "1.png", picture.stat()
    # Other pixels in a file that looks the same: only the cache still has the old ones.
    blob = picture.read_bytes()
    picture.write_bytes(bytes(len(blob)))
    os.utime(picture, ns=(before.st_atime_ns, before.st_mtime_ns))
    again, _ = read(data, cfg, root, cache)
    assert again.digest() == train.digest()
    # A file that was replaced is read.
    shutil.copy(other, picture)
    changed, same = read(data, cfg, root, cache)
    assert (changed.images[0] == train.images[1]).all() and same.digest() == test.digest()
    assert changed.digest() != train.digest()
    cache.write_bytes(cache.read_bytes()[:-100])
    assert read(data, cfg, root, cache)[0].digest() == changed.digest()
    assert np.load(cache, allow_pickle=False)["images0"].shape[0] == 20


class Mark:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_cache_runs_no_code(data, cfg, root, tmp_path):
    cache, mark = tmp_path / "cifar10.npz", tmp_path / "ran"
    np.savez(cache, source=np.array([Mark(mark)], dtype=object), images0=np.zeros(1))
    assert len(read(data, cfg, root, cache)[0]) == 20
    assert not mark.exists()


def test_images_in_memory(data, cfg, root, tmp_path, monkeypatch):
    from attn_mm.datasets.cifar import CIFAR10

    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    infos = [dict(img=image, gt_label=k) for k, image in enumerate(images)]
    monkeypatch.setattr(CIFAR10, "load_data_list", lambda self: list(infos))
    train, test = read(data, cfg, root, tmp_path / "cache.npz")
    assert (train.images == images).all() and test.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "said"), [(b"no image", "0.png"), ("large", "33 x 32 pixels; CIFAR-10's images have 32 x 32")]
)
def test_a_wrong_image_is_named(data, cfg, root, tmp_path, content, said):
    picture = root / "test" / "ship" / "0.png"
    if content == "large":
        import cv2

        cv2.imwrite(str(picture), np.zeros((32, 33, 3), np.uint8))
    else:
        picture.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read(data, cfg, root, tmp_path / "cache.npz")
    assert str(picture) in str(error.value) and not (tmp_path / "cache.npz").exists()


def test_a_subset_keeps_all_classes(data):
    split = data.Split(np.zeros((50, 32, 32, 3), np.uint8), np.arange(50) // 5)
    assert split.spread(20).labels.tolist() == [k // 2 for k in range(20)]
