"""Small classifiers trained for the demos of the analyses: in about a minute each, on a CPU."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from attn_mm.engine.configs import load_config

NETWORK = "configs/tam/r18_plain_300e_cifar10.py"
# A quarter of the width.
CHANNELS = 16
TD = {"type": "attn_mm.TD", "mode": "joint", "steps": 2, "distance": 1}


def demo_config(grafts: list[dict], channels: int = CHANNELS) -> Config:
    """A ResNet-18 for images of 32x32 pixels with these grafts, its first stage of so many channels."""
    cfg = load_config(NETWORK)
    net = cfg.model.backbone
    net.update(base_channels=channels, stem_channels=channels)
    cfg.model.head.in_channels = 8 * channels
    if grafts:
        cfg.model.backbone = dict(type="attn_mm.AttnBackbone", backbone=net, grafts=grafts)
    return cfg


def trained_demo(name: str, grafts: list[dict], out: Path) -> tuple[str, str]:
    """The config and the checkpoint of a small network, trained in ``out/name`` unless it is there."""
    from attn_mm.engine.demo import to_demo
    from attn_mm.engine.launch import build_runner

    work_dir = out / name
    config = work_dir / f"{name}.py"
    done = work_dir / "done"
    if not done.exists():
        cfg = demo_config(grafts)
        to_demo(cfg)
        cfg.work_dir, cfg.launcher, cfg.resume = str(work_dir), "none", True
        work_dir.mkdir(parents=True, exist_ok=True)
        build_runner(cfg).train()
        cfg.dump(config)
        done.touch()
    return str(config), find_latest_checkpoint(str(work_dir))
