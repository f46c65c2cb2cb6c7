"""Every config of the repo builds; one of each network and of each data set trains a step and evaluates."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from mmengine.runner import Runner

from attn_mm.describe.build import build
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


def without(node, names):
    """``node`` without the entries of these names, at any depth."""
    if isinstance(node, dict):
        return {key: without(value, names) for key, value in node.items() if key not in names}
    if isinstance(node, (list, tuple)):
        return [without(value, names) for value in node]
    return node


def parts(cfg) -> dict[str, object]:
    """What a step of training depends on: the network but for its classes, and how the data is read."""
    data = [cfg.train_dataloader, cfg.test_dataloader, cfg.test_evaluator]
    return dict(
        network=without(cfg.model, ("num_classes", "topk", "mean", "std")),
        data=without(data, ("data_root", "ann_file", "batch_size", "num_workers")),
    )


def seen_before(folder: Path, part: str, content) -> bool:
    """Whether any process of this session has had this content; it has from now on."""
    text = json.dumps(content, default=str, sort_keys=True)
    try:
        (folder / f"{part}-{hashlib.sha256(text.encode()).hexdigest()}").touch(exist_ok=False)
    except FileExistsError:
        return True
    return False


def demo_of(name):
    """The demo of a config, with what the config itself freezes."""
    cfg = load_config(str(CONFIGS / name))
    pytest.importorskip(f"{cfg.default_scope}.models")
    own = load_config(str(CONFIGS / name)).model
    to_demo(cfg)
    freeze_again(cfg.model, own)
    return cfg


@pytest.mark.parametrize("name", NAMES)
def test_builds_and_trains_if_it_is_new(name, tmp_path, session_folder, small_demos, quick_runs):
    cfg = demo_of(name)
    known = [seen_before(session_folder, part, content) for part, content in parts(cfg).items()]
    if all(known):
        assert any(True for _ in build(cfg, "meta").parameters())
    else:
        train_and_evaluate(cfg, tmp_path)


@pytest.mark.whole
@pytest.mark.parametrize("name", NAMES)
def test_trains(name, tmp_path, small_demos, quick_runs):
    train_and_evaluate(demo_of(name), tmp_path)


def train_and_evaluate(cfg, folder):
    for split in ("train", "val", "test"):
        loader = cfg[f"{split}_dataloader"]
        loader.batch_size = loader.dataset.indices = 2
    for node in walk(cfg.model):
        if "score_thr" in node:
            node.score_thr = 0.0  # an untrained detector is sure of nothing
    cfg.work_dir, cfg.launcher = str(folder), "none"
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
