"""The benchmark on CIFAR-10: its networks, its recipe, its table."""

from __future__ import annotations

import itertools

import pytest
from mmengine.registry import MODELS, DefaultScope

pytest.importorskip("mmpretrain")


@pytest.fixture(scope="module")
def cifar10(benchmark_file):
    return benchmark_file("cifar10")


def build(cfg):
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return MODELS.build(cfg.model)


def test_every_attention_adds_to_the_same_network(cifar10):
    counts = {
        net: sum(p.numel() for p in build(cifar10.network(net, 16)).parameters()) for net in cifar10.GRAFTS
    }
    # A CIFAR ResNet-18 of width w: 9 * 3 * w in the stem; 3x3 pairs; three shortcuts; norms; 10 classes.
    w = 16
    stages = [w, 2 * w, 4 * w, 8 * w]
    convs = 27 * w + sum(9 * c * (before + 3 * c) for before, c in zip([w, *stages], stages))
    shortcuts = sum(before * c for before, c in itertools.pairwise(stages))
    norms = 2 * w + sum(2 * c * (4 + (c > w)) for c in stages)
    assert counts.pop("plain") == convs + shortcuts + norms + 10 * 8 * w + 10
    assert min(counts.values()) > convs + shortcuts + norms + 10 * 8 * w + 10
    assert len(set(counts.values())) == len(counts)


def test_images_are_spread_over_the_classes(cifar10, tmp_path):
    recipe = cifar10.Recipe(data_root=str(tmp_path), epochs=1, images=20, width=16, amp=False)
    cfg = cifar10.network("td", 16)
    cifar10.set_recipe(cfg, recipe, seed=1)
    # 5000 of a class behind each other.
    assert [index // 5000 for index in cfg.train_dataloader.dataset.indices] == [k // 2 for k in range(20)]
    assert cfg.train_dataloader.dataset.data_root == str(tmp_path) and cfg.randomness.seed == 1


def test_the_table_has_the_mean_and_each_seed(cifar10):
    runs = [dict(net="se", seed=k, parameters=1_234_567, top1=value) for k, value in enumerate((50.0, 53.0))]
    assert "| se | 1.235 M | 51.50 | 50.00, 53.00 |" in cifar10.table(runs)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["eca2"], "unknown network eca2: expected plain, se, cbam, tam, td, aw, tdaf, vgg, vgg_att2"),
        (["vgg", "--width", "16"], "vgg has a fixed width"),
        (["--images", "50001"], "--images 50001: expected at most 50000"),
        (["--seeds", "0"], "argument --seeds: 0 is not positive"),
    ],
)
def test_mistakes(cifar10, tmp_path, capsys, flags, said):
    with pytest.raises(SystemExit) as stopped:
        cifar10.main([*flags, "--data-root", str(tmp_path), "--work-dir", str(tmp_path)])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
