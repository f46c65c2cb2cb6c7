"""The checkpoint of a demo, for tools that look into a trained network."""

from __future__ import annotations

import copy
import os.path as osp

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from attn_mm.engine.launch import build_runner

EPOCHS = 1


def demo_checkpoint(cfg: Config) -> str:
    """The newest checkpoint in the work dir of a demo; where there is none, a short training makes one.

    Args:
        cfg: the demo's config, of :func:`~attn_mm.engine.demo.to_demo`. It stays as it is.
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
