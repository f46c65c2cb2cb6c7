"""``--demo``: a small network, trained in minutes on generated pictures, and some of the pictures."""

from __future__ import annotations

from pathlib import Path

from attn_mm.engine.configs import load_config
from attn_mm.engine.demo import to_demo
from attn_mm.engine.launch import build_runner

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
