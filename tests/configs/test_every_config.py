"""Every config of the repo builds, trains one step and evaluates."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.runner import Runner

from attn_mm.frameworks.demo import to_demo
from attn_mm.utils.config import load_config, walk

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob("*.py")
    if "_base_" not in path.relative_to(CONFIGS).parts
)
FREEZING = ("frozen_stages", "norm_eval", "norm_cfg")


def freeze_again(demo, own):
    """A demo trains everything; what is frozen in the config itself is to be frozen here."""
    if isinstance(own, dict) and isinstance(demo, dict):
        demo.update({key: own[key] for key in FREEZING if key in own and key in demo})
        pairs = [(demo[key], own[key]) for key in demo if key in own]
    elif isinstance(own, (list, tuple)) and isinstance(demo, (list, tuple)):
        pairs = zip(demo, own)
    else:
        return
    for pair in pairs:
        freeze_again(*pair)


def test_there_are_configs():
    assert "fcos_tdaf_r50.py" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_builds_trains_a_step_and_evaluates(name, tmp_path, small_demos, quick_runs):
    cfg = load_config(str(CONFIGS / name))
    pytest.importorskip(f"{cfg.default_scope}.models")
    to_demo(cfg)
    freeze_again(cfg.model, load_config(str(CONFIGS / name)).model)
    for split in ("train", "val", "test"):
        loader = cfg[f"{split}_dataloader"]
        loader.batch_size = loader.dataset.indices = 2
    for node in walk(cfg.model):
        if "score_thr" in node:
            node.score_thr = 0.0  # an untrained detector is sure of nothing
    cfg.work_dir, cfg.launcher = str(tmp_path), "none"
    runner = Runner.from_cfg(cfg)
    model = runner.model
    model.init_weights()
    model.train()
    data = next(iter(runner.build_dataloader(cfg.train_dataloader)))
    losses = model(**model.data_preprocessor(data, True), mode="loss")
    loss, _ = model.parse_losses(losses)
    assert loss.isfinite()
    loss.backward()
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert trained
    for key, p in trained.items():
        assert p.grad is not None and p.grad.isfinite().all(), key
    metrics = runner.test()
    largest = 100 if cfg.default_scope == "mmpretrain" else 1
    assert all(-1 <= value <= largest for value in metrics.values())
    assert any(value >= 0 for value in metrics.values()), "nothing was evaluated"
