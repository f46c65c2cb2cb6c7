"""Small networks for the demos of the analyses; each trains in about a minute on a CPU."""

from __future__ import annotations

import copy
import os.path as osp
from pathlib import Path

from mmengine.config import Config

from attn_mm.frameworks.demo import to_demo
from attn_mm.run.launch import build_runner
from attn_mm.run.resume import last_checkpoint, resume_from
from attn_mm.run.screen.watch import watching
from attn_mm.utils.config import load_config

NETWORK = "configs/tam/r18_plain_300e_cifar10.py"
# A quarter of the width.
CHANNELS = 16
TD = {"type": "attn_mm.TD", "mode": "joint", "steps": 2, "distance": 1}
CBAM = {"type": "attn_mm.CBAM", "position": "after_conv2"}
# Of a training that only makes a checkpoint, and of one whose attention is looked at.
SHORT_EPOCHS, EXPLORED_EPOCHS = 1, 4
NUM_PICTURES = 12


def demo_config(grafts: list[dict], channels: int = CHANNELS) -> Config:
    """Return the demo of a ResNet-18 for images of 32x32 pixels.

    Args:
        grafts: the grafts on the network.
        channels: channels of the first stage.
    """
    cfg = load_config(NETWORK)
    net = cfg.model.backbone
    net.update(base_channels=channels, stem_channels=channels)
    cfg.model.head.in_channels = 8 * channels
    if grafts:
        cfg.model.backbone = dict(type="attn_mm.AttnBackbone", backbone=net, grafts=grafts)
    to_demo(cfg)
    return cfg


def trained(cfg: Config, folder: Path, name: str) -> tuple[str, str]:
    """Train a demo in ``folder``, unless it has been trained there already.

    Args:
        cfg: the demo's config.
        folder: the work dir. An interrupted training is resumed.
        name: name of the config file to write.

    Returns:
        Paths of the config file and of the checkpoint.
    """
    config, done = folder / f"{name}.py", folder / "done"
    if not done.exists():
        print(f"training {folder.name} for the demo; later demos reuse it from {folder}")
        cfg.work_dir, cfg.launcher = str(folder), "none"
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.glob("*.pth")):
            resume_from(cfg)
        with watching() as screen:
            build_runner(cfg, screen).train()
        cfg.dump(config)
        done.touch()
    return str(config), last_checkpoint(folder)


def trained_network(grafts: list[dict], folder: Path) -> tuple[str, str]:
    """Train a small ResNet-18 and return the paths of its config and checkpoint, see :func:`trained`."""
    return trained(demo_config(grafts), folder, folder.name)


def small_network(folder: Path) -> tuple[str, str, list[Path]]:
    """Train a small ResNet-18 with CBAM and TD.

    Returns:
        Paths of its config file, of its checkpoint, and of pictures that it was not trained on.
    """
    cfg = demo_config([CBAM, {"type": "attn_mm.TD", "mode": "joint"}])
    cfg.train_cfg.update(max_epochs=EXPLORED_EPOCHS, val_interval=EXPLORED_EPOCHS)
    config, checkpoint = trained(cfg, folder, "small_td_cbam")
    dataset = cfg.val_dataloader.dataset
    pictures = sorted(Path(dataset.data_root, dataset.data_prefix).glob("*.*"))
    return config, checkpoint, pictures[:NUM_PICTURES]


def demo_checkpoint(cfg: Config) -> str:
    """Find the newest checkpoint in a demo's work dir, or train briefly to make one.

    Args:
        cfg: the demo's config from :func:`~attn_mm.frameworks.demo.to_demo`. It isn't changed.
    """
    found = last_checkpoint(cfg.work_dir)
    if osp.isfile(found):
        return found
    print(f"no checkpoint in {cfg.work_dir}: training for {SHORT_EPOCHS} epoch")
    short = copy.deepcopy(cfg)
    short.train_cfg.update(max_epochs=SHORT_EPOCHS, val_interval=SHORT_EPOCHS)
    for scheduler in short.param_scheduler:
        if "T_max" in scheduler:
            scheduler.T_max = SHORT_EPOCHS
    with watching() as screen:
        build_runner(short, screen).train()
    return last_checkpoint(cfg.work_dir)
