"""The classification configs: their parameters, their page, their schedules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attn_mm.describe.build import build
from attn_mm.describe.counting import count_parameters
from attn_mm.papers.accuracies import TABLES
from attn_mm.papers.index import CONFIGS, PAGE, page, parameters
from attn_mm.utils.config import load_config

pytest.importorskip("mmpretrain.models")

NAMES = sorted(str(path.relative_to(CONFIGS))[:-3] for path in CONFIGS.glob("*/*[0-9]e_*.py"))
# What the layers of LTPA's appendix A.2 amount to: 10 and 100 classes.
LTPA = {
    "vgg_plain_300e": (14_991_946, 15_038_116),
    "vgg_ltpa-att-dp_300e": (19_713_610, 19_759_780),
    "vgg_ltpa-att-pc_300e": (19_714_123, 19_760_293),
    "vgg_ltpa-att2-indep-dp_300e": (19_719_764, 19_812_104),
    "vgg_ltpa-att2-indep-pc_300e": (19_720_790, 19_813_130),
    "vgg_ltpa-att2-concat-dp_300e": (19_719_754, 19_812_004),
    "vgg_ltpa-att2-concat-pc_300e": (19_720_780, 19_813_030),
    "vgg_ltpa-att3-concat-pc_300e": (19_856_461, 19_971_751),
    "vgg-gap_plain_300e": (14_728_266, 14_774_436),
    "vgg_pan_300e": (24_698_956, 24_745_126),
    "rn164_plain_200e": (1_703_258, 1_726_388),
    "rn164_ltpa-att_200e": (2_360_411, 2_383_541),
    "rn164_ltpa-att2_200e": (2_395_484, 2_430_134),
}
TO_THE_UNIT = {
    **{f"ltpa/{net}_cifar10": counts[0] for net, counts in LTPA.items()},
    **{f"ltpa/{net}_cifar100": counts[1] for net, counts in LTPA.items()},
    "td/r50_td-joint_90e_in1k": 27_645_992,
    "td/r50_td-top_90e_in1k": 27_056_168,
    "td/r18_td-top_90e_in1k": 11_774_504,
    "td/r18_td-top-m2_90e_in1k": 11_767_336,
    "td/r34_td-joint_90e_in1k": 22_098_728,
    "td/r34_td-joint-m2_90e_in1k": 22_074_152,
    # A ResNet-50 whose classifier has 512 and 1024 inputs more.
    "tdaf/r50_multiscale_100e_in1k": 25_557_032 + 1536 * 1000,
}
# In millions, as published: TD's and TDAF's tables 1 and 3, AW's and TAM's tables, with TAM's 1x1 kernels.
MILLIONS = {
    "td/r50_plain_90e_in1k": "25.56",
    "td/r50_se_90e_in1k": "28.07",
    "td/r50_cbam_90e_in1k": "28.07",
    "td/r50_eca_90e_in1k": "25.56",
    "td/r50_fca_90e_in1k": "28.07",
    "td/r50_td-top-m3_90e_in1k": "27.655",
    "td/r101_td-joint_90e_in1k": "46.755",
    "td/r101_td-joint-layer4_90e_in1k": "45.938",
    "tdaf/vgg16_plain_100e_in1k": "138.36",
    "tdaf/vgg16_tdaf-anar5_100e_in1k": "138.88",
    "tdaf/rx50_plain_100e_in1k": "25.0",
    "aw/r50-caffe_aw_90e_in1k": "25.722",
    "aw/r50-caffe_se_90e_in1k": "28.088",
    "aw/r50-caffe_aw-se_90e_in1k": "28.253",
    "aw/r101-caffe_aw_90e_in1k": "44.863",
    "aw/mobilenet_plain_90e_in1k": "4.232",
    "aw/mobilenet_se_90e_in1k": "5.072",
    "aw/mobilenet_aw-se_90e_in1k": "5.521",
    "aw/r50-caffe_aw_200e_cifar100": "23.87",
    "aw/r50-caffe_aw-se_200e_cifar100": "26.40",
    "aw/aa-wrn10-10_plain_200e_cifar100": "8.435",
    "aw/aa-wrn10-10_aw0_200e_cifar100": "8.504",
    "aw/aa-wrn10-10_aw1_200e_cifar100": "8.478",
    "aw/aa-wrn10-10_aw2_200e_cifar100": "8.452",
    "aw/aa-wrn10-10_aw3_200e_cifar100": "8.435",
    "tam/r18_tam_300e_cifar100": "11.228",
    "tam/r50_tam_300e_cifar100": "23.766",
    "tam/r101_tam_300e_cifar100": "42.827",
    "tam/rx50_tam_300e_cifar100": "23.237",
    "tam/wrn16-8_tam_300e_cifar100": "11.016",
}
ANARS = {3: 164_371, 5: 587_411, 7: 754_067}


@pytest.fixture(scope="module")
def counts():
    return {name: parameters(CONFIGS / f"{name}.py") for name in NAMES}


def test_parameters_to_the_unit(counts):
    assert {name: counts[name] for name in TO_THE_UNIT} == TO_THE_UNIT


def test_parameters_to_the_published_digits(counts):
    found = {
        name: f"{counts[name] / 1e6:.{len(figure.partition('.')[2])}f}" for name, figure in MILLIONS.items()
    }
    assert found == MILLIONS


@pytest.mark.parametrize("anar", ANARS)
def test_anars_add_what_they_have(counts, anar):
    assert counts[f"tdaf/r50_tdaf-anar{anar}_100e_in1k"] - counts["tdaf/r50_plain_100e_in1k"] == ANARS[anar]


def test_the_page_is_up_to_date(counts):
    advice = "python -m attn_mm.papers.index writes it anew"
    assert PAGE.read_text() == page(counts), advice


def test_every_config_is_in_one_table():
    listed = [name for table in TABLES for name in table.figures]
    assert sorted(listed) == NAMES


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
        ("tdaf/r50_tdaf-anar3_100e_in1k", steps(0.1, 0.1, [30, 60, 90], 100)),
        ("tdaf/vgg16_plain_100e_in1k", steps(0.01, 0.1, [30, 60, 90], 100)),
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
        "tdaf/r50_plain_164e_cifar10",
    ):
        cfg = load_config(str(CONFIGS / f"{name}.py"))
        found[name] = cfg.train_dataloader.batch_size, cfg.optim_wrapper.optimizer.weight_decay
        assert cfg.auto_scale_lr.base_batch_size == cfg.train_dataloader.batch_size
    assert list(found.values()) == [(128, 1e-4), (128, 5e-4), (64, 5e-4), (256, 1e-4)]


def test_every_set_is_tested_as_such():
    """Without test_mode an image that can't be read would be left out of the figures."""
    for path in Path(CONFIGS, "_base_/recipes").glob("*_*.py"):
        assert load_config(str(path)).test_dataloader.dataset.test_mode, path
