"""Small classifiers trained for the demos of the analyses: in about a minute each, on a CPU."""

from __future__ import annotations

import copy
import os.path as osp
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from attn_mm.frameworks.demo import to_demo
from attn_mm.run.launch import build_runner
from attn_mm.utils.config import load_config

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
    from attn_mm.frameworks.demo import to_demo
    from attn_mm.run.launch import build_runner

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


EPOCHS = 1


def demo_checkpoint(cfg: Config) -> str:
    """The newest checkpoint in the work dir of a demo; where there is none, a short training makes one.

    Args:
        cfg: the demo's config, of :func:`~attn_mm.frameworks.demo.to_demo`. It stays as it is.
    """
    found = find_latest_checkpoint(cfg.work_dir)
    if found and osp.isfile(found):
        return found
    print(f"no checkpoint in {cfg.work_dir}: training for {EPOCHS} epoch")
    short = copy.deepcopy(cfg)
    short.train_cfg.update(max_epochs=EPOCHS, val_interval=EPOCHS)
    for scheduler in short.param_scheduler:
        if "T_max" in scheduler:
            scheduler.T_max = EPOCHS
    build_runner(short).train()
    return find_latest_checkpoint(cfg.work_dir)


WIDTH = 16
EPOCHS = 4
NUM_PICTURES = 12


def small_network(folder: Path) -> tuple[str, str, list[Path]]:
    """Train a ResNet-18 with CBAM and TD, a quarter as wide as usual, in ``folder``.

    Returns:
        its config file, its checkpoint, and pictures that it was not trained on.
    """
    cfg = load_config("configs/tam/r18_plain_300e_cifar10.py")
    cfg.model.backbone.update(stem_channels=WIDTH, base_channels=WIDTH)
    cfg.model.head.in_channels = 8 * WIDTH
    grafts = [dict(type="attn_mm.CBAM", position="after_conv2"), dict(type="attn_mm.TD", mode="joint")]
    cfg.model.backbone = dict(type="attn_mm.AttnBackbone", backbone=cfg.model.backbone, grafts=grafts)
    to_demo(cfg)
    cfg.train_cfg.update(max_epochs=EPOCHS, val_interval=EPOCHS)
    cfg.work_dir, cfg.launcher = str(folder), "none"
    build_runner(cfg).train()
    dataset = cfg.val_dataloader.dataset
    pictures = sorted(Path(dataset.data_root, dataset.data_prefix).glob("*.*"))
    config = folder / "small_td_cbam.py"
    cfg.dump(str(config))
    return str(config), str(folder / f"epoch_{EPOCHS}.pth"), pictures[:NUM_PICTURES]
