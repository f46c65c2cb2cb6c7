"""The schedule of all demos: AdamW from scratch with a short warm-up, then a cosine to zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mmengine.config import Config, ConfigDict

from attn_mm.utils.config import type_name

WARMUP_ITERATIONS = 50
# Of averaged weights: the configs' own averages would span more steps than a demo has.
EMA_MOMENTUM, EMA_GAMMA = 0.02, 100


def set_schedule(cfg: Config, epochs: int, lr: float, hooks: Sequence[ConfigDict] = ()) -> None:
    """Replace the optimiser, schedule, hooks and random seed of a config, in place.

    A config that averages its weights still does, over fewer steps.

    Args:
        cfg: the config.
        epochs: length of the training; it is evaluated after half of it, rounded up, and at its end.
        lr: the highest learning rate.
        hooks: custom hooks of the config that suit a training of this length.
    """
    half = math.ceil(epochs / 2)
    cfg.train_cfg = ConfigDict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=half)
    cfg.optim_wrapper = ConfigDict(
        type="OptimWrapper",
        optimizer=dict(type="AdamW", lr=lr, weight_decay=0.05, fused=True),
        # Some heads share their convolutions between levels.
        paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, bypass_duplicate=True),
        clip_grad=dict(max_norm=35),
    )
    cfg.param_scheduler = [
        ConfigDict(type="LinearLR", start_factor=0.1, by_epoch=False, end=WARMUP_ITERATIONS),
        ConfigDict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True, T_max=epochs),
    ]
    cfg.custom_hooks = [*hooks, *_averaging_hooks(cfg)]
    cfg.default_hooks.logger.interval = 20
    # A checkpoint takes seconds to reach the disk.
    cfg.default_hooks.checkpoint = ConfigDict(type="CheckpointHook", interval=half, max_keep_ckpts=1)
    cfg.randomness = dict(seed=0)
    # A config that is for tests alone has no validation.
    cfg.setdefault("val_cfg", ConfigDict())
    cfg.setdefault("test_cfg", ConfigDict())


def _averaging_hooks(cfg: Config) -> list[ConfigDict]:
    hooks = [hook for hook in cfg.get("custom_hooks") or [] if type_name(hook) == "EMAHook"]
    for hook in hooks:
        hook.begin_iter = hook.begin_epoch = 0
        kind = type_name({"type": hook.get("ema_type", "")})
        if kind != "StochasticWeightAverage":
            hook.momentum = EMA_MOMENTUM
        if kind == "ExpMomentumEMA":
            hook.gamma = EMA_GAMMA
    return hooks


def dataloader(batch_size: int, dataset: dict, shuffle: bool) -> ConfigDict:
    """The config of a loader of ``dataset`` that starts no worker process."""
    return ConfigDict(
        batch_size=batch_size,
        # A worker would compete for the few cores of a demo's machine.
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=shuffle),
        dataset=dataset,
    )
