"""How long to train on a set of some size, and the lines of a config that say so."""

from __future__ import annotations

import math

from attn_mm.errors import UserError

# Fine-tuning converges within some thousand steps; a large set is seen as often as detectors see COCO.
_STEPS = 3000
_MOST_EPOCHS, _FEWEST_EPOCHS = 100, 12
_WARM_UP = 100
# Validations during a training.
_VALIDATIONS = 10


def epochs_for(number: int, batch_size: int) -> int:
    """The epochs for ``number`` training samples: about 3,000 steps, but 12 to 100 epochs."""
    steps = math.ceil(number / batch_size)
    return min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, math.ceil(_STEPS / steps)))


def check_number(number: int, data: object, noun: str) -> None:
    """Refuse a training set of fewer than two samples, of which no step remains.

    Args:
        number: of samples.
        data: the data set, for the message.
        noun: what the samples are, in the plural.
    """
    if number < 2:
        raise UserError(f"{data} has {number} {noun} to train on: two or more are needed")


def batch_size_for(number: int, usual: int) -> int:
    """The usual batch, or a smaller one if a set is so small that an epoch would have few steps.

    It is at least 2: some attention normalises over one value per sample.
    """
    return max(2, min(usual, number // 4))


def last_is_alone(number: int, batch_size: int) -> bool:
    """Whether the last batch of an epoch has one sample, which can't be normalised and is better dropped."""
    return number % batch_size == 1


def schedule_text(epochs: int, number: int, batch_size: int, metric: str) -> str:
    """The lines of a config for its optimiser, schedule, validation and checkpoints.

    Args:
        epochs: how often to see each sample.
        number: of training samples.
        batch_size: of a step.
        metric: chooses the best checkpoint.
    """
    steps = math.ceil(number / batch_size)
    warm_up = min(_WARM_UP, max(1, epochs * steps // 10))
    return f"""\
train_cfg = dict(max_epochs={epochs}, val_interval={math.ceil(epochs / _VALIDATIONS)})
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=5e-4, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, bypass_duplicate=True),
    clip_grad=dict(max_norm=35),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, end={warm_up}),
    dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True, T_max={epochs}),
]
auto_scale_lr = dict(base_batch_size={batch_size})
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=1, save_best="{metric}", rule="greater"),
    logger=dict(interval={min(50, max(1, steps // 2))}),
)
randomness = dict(seed=0)
"""
