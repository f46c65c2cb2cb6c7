"""Shared by the tests of the CIFAR-10 benchmark: a folder of few images, and short runs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from cifar_runs import Tiny

PREPROCESSOR = dict(mean=[120.0, 121.0, 122.0], std=[60.0, 61.0, 62.0], to_rgb=True)


@pytest.fixture
def importable(repo, monkeypatch):
    """Let ``import benchmarks`` find the folder of that name."""
    monkeypatch.syspath_prepend(str(repo))


@pytest.fixture(scope="session")
def few_images(tmp_path_factory):
    """CIFAR-10's layout of folders with two training images and a test image of each class, of noise."""
    from mmpretrain.datasets.categories import CIFAR10_CATEGORIES

    root, draw = tmp_path_factory.mktemp("cifar10"), np.random.default_rng(0)
    for split, count in (("train", 2), ("test", 1)):
        for name in CIFAR10_CATEGORIES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                cv2.imwrite(str(folder / f"{i}.png"), draw.integers(0, 256, (32, 32, 3), np.uint8))
    return root


@pytest.fixture
def training(importable):
    from benchmarks import cifar_training

    return cifar_training


@pytest.fixture
def train(importable):
    """130 images: a whole batch and two more."""
    from benchmarks.cifar_data import Batches, Split

    draw = np.random.default_rng(0)
    split = Split(draw.integers(0, 256, (130, 32, 32, 3), np.uint8), draw.integers(0, 10, 130))
    return Batches(split, PREPROCESSOR, torch.device("cpu"))


@pytest.fixture
def start(training, train):
    """A new run, always with the same weights."""

    def make(seed=0, epochs=3, dropout=0.0, **options):
        torch.manual_seed(1)
        return training.Run("tiny_0", Tiny(dropout), train, epochs, seed, **options)

    return make
