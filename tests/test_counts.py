"""Parameters of the configs' detectors are those that the paper publishes (table 4)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.nn.modules.batchnorm import _BatchNorm

CONFIGS = Path(__file__).parents[1] / "configs"


def detector(name):
    """The detector of a config, without storage: only its shapes are looked at."""
    pytest.importorskip("mmdet.models")
    from mmdet.registry import MODELS

    with DefaultScope.overwrite_default_scope("mmdet"), torch.device("meta"):
        return MODELS.build(Config.fromfile(CONFIGS / f"{name}.py").model)


def published(model):
    """The paper's count: a baseline's batch norms are constants, TDAF's are parameters."""
    count = sum(p.numel() for p in model.parameters())
    if not hasattr(model.backbone, "anars"):
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        assert not any(p.requires_grad for m in norms for p in m.parameters())
        count -= sum(p.numel() for m in norms for p in m.parameters())
    return count


@pytest.mark.parametrize(
    "name, millions",
    [
        ("fcos_r50", 32.244),
        ("fcos_tdaf_r50", 32.462),
        ("fcos_tdaf_r50_anar5", 32.885),
        ("fcos_r101", 51.184),
        ("fcos_tdaf_r101", 51.454),
        ("fcos_tdaf_r101_4flows", 51.454),
        ("fcos_tdaf_r101_anar5", 51.877),
    ],
)
def test_published_parameters(name, millions):
    assert round(published(detector(name)) / 1e6, 3) == millions


@pytest.mark.parametrize(
    "baseline, grafted, added",
    [
        ("_base_/fcos_r50_trained_norms", "fcos_tdaf_r50", 164_371),
        ("_base_/fcos_r50_trained_norms", "fcos_tdaf_r50_anar5", 587_411),
        ("_base_/fcos_r101_trained_norms", "fcos_tdaf_r101", 164_371),
        ("_base_/fcos_r101_trained_norms", "fcos_tdaf_r101_4flows", 164_371),
        ("_base_/fcos_r101_trained_norms", "fcos_tdaf_r101_anar5", 587_411),
    ],
)
def test_tdaf_adds_its_anars_and_nothing_else(baseline, grafted, added):
    plain, tdaf = detector(baseline), detector(grafted)
    assert sum(p.numel() for p in tdaf.parameters()) - sum(p.numel() for p in plain.parameters()) == added
    new = dict(tdaf.named_parameters()).keys() - dict(plain.named_parameters()).keys()
    assert all(name.startswith("backbone.anars.") for name in new)
    assert tdaf.backbone.flows == (4 if "4flows" in grafted else 3)


def test_baselines_freeze_the_norms_of_their_backbone_and_tdaf_trains_them():
    def frozen(model):
        norms = {n: m for n, m in model.backbone.named_modules() if isinstance(m, _BatchNorm)}
        return {n for n, m in norms.items() if not m.weight.requires_grad}, set(norms)

    kept, norms = frozen(detector("fcos_r50"))
    assert kept == norms
    kept, norms = frozen(detector("fcos_tdaf_r50"))
    assert kept == {n for n in norms if n.startswith(("bn1", "layer1."))}, (
        "frozen_stages=1 of the base config"
    )
