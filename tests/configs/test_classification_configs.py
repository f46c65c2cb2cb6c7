"""The classification configs: their schedules, batches and data sets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attn_mm.describe.build import build
from attn_mm.describe.counting import count_parameters
from attn_mm.utils.config import load_config
from attn_mm.utils.config_names import CONFIGS

pytest.importorskip("mmpretrain.models")


@pytest.mark.parametrize(("net", "millions"), [("rx29-cifar", "34.4"), ("wrn28-10", "36.5")])
def test_networks_that_no_row_has(net, millions, tmp_path):
    """ResNeXt-29 (8x64d) and WRN-28-10 as their own papers count them."""
    config = tmp_path / "config.py"
    bases = [str(CONFIGS / "_base_" / f"{part}.py") for part in ("recipes/tam_cifar10", f"networks/{net}")]
    config.write_text(f"_base_ = {bases}\nmodel = dict(head=dict(num_classes=10))\n")
    assert f"{count_parameters(build(load_config(str(config)), 'meta')).params / 1e6:.1f}" == millions


def rates(name: str) -> list[float]:
    """The learning rate of each epoch."""
    from mmengine.registry import PARAM_SCHEDULERS

    cfg = load_config(str(CONFIGS / f"{name}.py"))
    lr = cfg.optim_wrapper.optimizer.lr
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedulers = cfg.param_scheduler
    schedulers = [
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer))
        for scheduler in (schedulers if isinstance(schedulers, list) else [schedulers])
    ]
    found = []
    for _ in range(cfg.train_cfg.max_epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


def steps(first: float, factor: float, at: list[int], epochs: int) -> list[float]:
    return [first * factor ** sum(epoch >= drop for drop in at) for epoch in range(epochs)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tam/r50_tam_300e_cifar100", steps(0.1, 0.1, [150, 225], 300)),
        ("tam/r50_tam_160e_svhn", steps(0.1, 0.1, [80, 120], 160)),
        ("ltpa/vgg_plain_300e_cifar10", steps(1.0, 0.5, list(range(25, 300, 25)), 300)),
        ("ltpa/vgg_plain_300e_svhn", steps(0.1, 0.5, list(range(25, 300, 25)), 300)),
        ("ltpa/rn164_plain_200e_cifar100", steps(0.1, 0.2, [60, 120, 160], 200)),
        ("tdaf/r50_tdaf-anar3_120e_in1k", steps(0.1, 0.1, [30, 60, 90], 120)),
        ("tdaf/vgg16_plain_120e_in1k", steps(0.1, 0.1, [30, 60, 90], 120)),
        ("tdaf/vgg16_tdaf-anar2_350e_cifar10", steps(0.1, 0.1, [150, 250], 350)),
        ("td/r50_td-joint_125e_in1k", steps(0.1, 0.1, [30, 60, 90, 120], 125)),
        (
            "ltpa/vgg_plain_290e_cub",
            # 0.1 for 30 epochs, doubled twice over the next 60, then halved every 30 for 200.
            [0.1] * 30 + [0.2] * 30 + [0.4] * 30 + steps(0.2, 0.5, list(range(30, 200, 30)), 200),
        ),
    ],
)
def test_the_papers_schedules(name, expected):
    assert rates(name) == pytest.approx(expected)


def test_batches_and_decays_of_the_papers():
    found = {}
    for name in (
        "tam/r18_tam_300e_cifar10",
        "ltpa/vgg_plain_300e_cifar10",
        "ltpa/rn164_plain_200e_cifar10",
        "tdaf/r50_plain_350e_cifar10",
    ):
        cfg = load_config(str(CONFIGS / f"{name}.py"))
        found[name] = cfg.train_dataloader.batch_size, cfg.optim_wrapper.optimizer.weight_decay
        assert cfg.auto_scale_lr.base_batch_size == cfg.train_dataloader.batch_size
    assert list(found.values()) == [(128, 1e-4), (128, 5e-4), (64, 5e-4), (256, 5e-4)]


def test_every_set_is_tested_as_such():
    """Without test_mode an image that can't be read would be left out of the figures."""
    for path in Path(CONFIGS, "_base_/recipes").glob("*_*.py"):
        assert load_config(str(path)).test_dataloader.dataset.test_mode, path
