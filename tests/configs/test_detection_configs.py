"""Parameters of the configs' detectors are those that the papers publish, or that their modules add up to."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from module_parameters import ANARS_OF_RESNET50, aw, cbam, grafts_of_resnet50, se
from published import row_of
from torch.nn.modules.batchnorm import _BatchNorm

CONFIGS = Path(__file__).parents[2] / "configs"


@cache
def detector(name):
    """The detector of a config, without storage: only its shapes are looked at."""
    return build(Config.fromfile(CONFIGS / f"{name}.py"))


def build(cfg):
    pytest.importorskip("mmdet.models")
    from mmdet.registry import MODELS

    with DefaultScope.overwrite_default_scope("mmdet"), torch.device("meta"):
        return MODELS.build(cfg.model)


def count(model):
    return sum(p.numel() for p in model.parameters())


def published(model):
    """The paper's count: a baseline's batch norms are constants, TDAF's are parameters."""
    total = count(model)
    if not hasattr(model.backbone, "anars"):
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        assert not any(p.requires_grad for m in norms for p in m.parameters())
        total -= sum(p.numel() for m in norms for p in m.parameters())
    return total


@pytest.mark.parametrize(
    "name",
    [
        "tdaf/fcos-r50_plain_coco",
        "fcos_tdaf_r50",
        "tdaf/fcos-r50_tdaf-anar5_coco",
        "tdaf/fcos-r101_plain_coco",
        "tdaf/fcos-r101_tdaf-anar3_coco",
        "tdaf/fcos-r101_tdaf-anar3-4flows_coco",
        "tdaf/fcos-r101_tdaf-anar5_coco",
    ],
)
def test_published_parameters(name):
    assert f"{published(detector(name)) / 1e6:.3f} M" == row_of(name, "TDAF, table 4").params


@pytest.mark.parametrize(
    "baseline, grafted, added",
    [
        ("tdaf/fcos-r50_plain_trained-norms_coco", "fcos_tdaf_r50", ANARS_OF_RESNET50[3]),
        ("tdaf/fcos-r50_plain_trained-norms_coco", "tdaf/fcos-r50_tdaf-anar5_coco", ANARS_OF_RESNET50[5]),
        ("tdaf/fcos-r101_plain_trained-norms_coco", "tdaf/fcos-r101_tdaf-anar3_coco", ANARS_OF_RESNET50[3]),
        (
            "tdaf/fcos-r101_plain_trained-norms_coco",
            "tdaf/fcos-r101_tdaf-anar3-4flows_coco",
            ANARS_OF_RESNET50[3],
        ),
        ("tdaf/fcos-r101_plain_trained-norms_coco", "tdaf/fcos-r101_tdaf-anar5_coco", ANARS_OF_RESNET50[5]),
    ],
)
def test_tdaf_adds_its_anars_and_nothing_else(baseline, grafted, added):
    plain, tdaf = detector(baseline), detector(grafted)
    assert count(tdaf) - count(plain) == added
    new = dict(tdaf.named_parameters()).keys() - dict(plain.named_parameters()).keys()
    assert all(name.startswith("backbone.anars.") for name in new)
    assert tdaf.backbone.attn_mm.flows.number == (4 if "4flows" in grafted else 3)


def test_baselines_freeze_the_norms_of_their_backbone_and_tdaf_trains_them():
    def frozen(model):
        norms = {n: m for n, m in model.backbone.named_modules() if isinstance(m, _BatchNorm)}
        return {n for n, m in norms.items() if not m.weight.requires_grad}, set(norms)

    kept, norms = frozen(detector("tdaf/fcos-r50_plain_coco"))
    assert kept == norms
    kept, norms = frozen(detector("fcos_tdaf_r50"))
    assert kept == {n for n in norms if n.startswith(("bn1", "layer1."))}, (
        "frozen_stages=1 of the base config"
    )


def parameters(name):
    return count(detector(name))


LATERALS = (256, 512, 1024, 2048)
AW_FPN = sum(aw(c, 256) for c in LATERALS) + 4 * aw(256, 256)
SE_FPN, CBAM_FPN = (sum(layer(c, bias=True) for c in (*LATERALS, *[256] * 4)) for layer in (se, cbam))


@pytest.mark.parametrize("depth", ["r50", "r101"])
def test_attention_fpns(depth):
    counted = row_of("aw/faster-rcnn-r101_neck-aw_coco", "AW, counted").params
    assert f"{AW_FPN:,}" == counted
    faster_rcnn = f"{'aw' if depth == 'r101' else 'detection'}/faster-rcnn-{depth}"
    plain = parameters(f"{faster_rcnn}_plain_coco")
    for kind, added in {
        "aw": AW_FPN,
        "se": SE_FPN,
        "aw-se": AW_FPN + SE_FPN,
        "cbam": CBAM_FPN,
        "aw-cbam": AW_FPN + CBAM_FPN,
    }.items():
        assert parameters(f"{faster_rcnn}_neck-{kind}_coco") - plain == added, kind


def test_attention_fpns_of_other_detectors():
    # RetinaNet's begins at the second stage and has two levels more, the first of them from the last stage.
    retina = sum(aw(c, 256) for c in (512, 1024, 2048, 256, 256, 256, 2048, 256))
    for name, base, added in [
        ("detection/retinanet-r50_neck-aw_coco", "retinanet/retinanet_r50_fpn_1x_coco.py", retina),
        (
            "detection/mask-rcnn-r50_neck-aw-cbam_coco",
            "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
            AW_FPN + CBAM_FPN,
        ),
    ]:
        ours, plain = detector(name), build(get_config(f"mmdet::{base}"))
        assert count(ours) - count(plain) == added
        names = dict(ours.named_parameters()).keys() - dict(plain.named_parameters()).keys()
        assert all(key.startswith("neck.") for key in names)


# In the stages that mmdet does not freeze.
GRAFTS = grafts_of_resnet50(stages=(1, 2, 3))


@pytest.mark.parametrize("kind, added", [*GRAFTS.items(), ("tdaf-anar3", ANARS_OF_RESNET50[3])], ids=str)
def test_attention_backbones(kind, added):
    plain, ours = (detector(f"detection/faster-rcnn-r50_{k}_coco") for k in ("plain", kind))
    assert count(ours) - count(plain) == added
    frozen = {n for n, p in plain.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, p in ours.named_parameters() if not p.requires_grad}, "what is new trains"
    assert all(n.startswith(("backbone.conv1.", "backbone.bn1.", "backbone.layer1.")) for n in frozen)
    if kind in GRAFTS:
        plain, ours = detector("tdaf/fcos-r50_plain_coco"), detector(f"detection/fcos-r50_{kind}_coco")
        assert count(ours) - count(plain) == added
        new = dict(ours.named_parameters()).keys() - dict(plain.named_parameters()).keys()
        assert all(p.requires_grad for n, p in ours.named_parameters() if n in new)


def test_ssd300():
    widths = [3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6, 1024]
    extra = [1024, 256, 512, 128, 256, 128, 256, 128, 256]
    added = sum(aw(c1, c2) for line in (widths, extra) for c1, c2 in pairwise(line))
    assert parameters("aw/ssd300-vgg16_aw-neck-aw_voc") - parameters("aw/ssd300-vgg16_plain_voc") == added
    # SE and CBAM have two linear layers with biases on each of the six maps, CBAM a 7x7 kernel as well.
    maps = [512, 1024, 512, 256, 256, 256]
    se = sum(2 * c * (c // 16) + c // 16 + c for c in maps)
    for kind, more in (("se", se), ("cbam", se + 6 * (2 * 49 + 2))):
        for base, name in (("plain", f"neck-{kind}"), ("aw-neck-aw", f"aw-neck-aw-{kind}")):
            found = parameters(f"aw/ssd300-vgg16_{name}_voc") - parameters(f"aw/ssd300-vgg16_{base}_voc")
            assert found == more
