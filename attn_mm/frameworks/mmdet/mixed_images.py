"""Training images that a detector's config mixes from several: mosaics and mixtures, at a demo's size.

YOLOX wraps its data set for them, RTMDet caches the last images. Both end them with a hook some epochs before
the training ends.
"""

from __future__ import annotations

from collections.abc import Callable

from mmengine.config import Config, ConfigDict

from attn_mm.utils.config import type_name, walk

_MOSAICS = ("Mosaic", "CachedMosaic")
_WRAPPER = "MultiImageMixDataset"
_SWITCHES = ("PipelineSwitchHook", "YOLOXModeSwitchHook")
# Options of a step that are pixels.
_SIZES = ("img_scale", "scale", "size", "crop_size", "border")
# The configs end the mosaics after 280 to 285 of 300 epochs. In a short training a network learns more from
# whole images.
PART_BEFORE = 0.2


def mixed_images(
    cfg: Config, size: int, epochs: int, dataset: Callable[[list[dict]], dict], whole: list[dict]
) -> tuple[dict, list[ConfigDict]] | None:
    """A config's mosaics for square images of ``size`` pixels, on another data set.

    Args:
        cfg: the config. Its pipelines are changed in place.
        size: the side of the images, in pixels.
        epochs: length of the training.
        dataset: makes the config of a data set from a pipeline.
        whole: the pipeline after the mosaics where a hook replaces the pipeline.

    Returns:
        The configs of the training set and of the hooks that end the mosaics. None if the config has no
        mosaics.
    """
    source = cfg.train_dataloader.dataset
    sides = [max(node.get("img_scale", (640,))) for node in walk(source) if type_name(node) in _MOSAICS]
    if not sides:
        return None
    hooks = [hook for hook in cfg.get("custom_hooks") or [] if type_name(hook) in _SWITCHES]
    _fit(source, size / max(sides))
    first = max(1, round(PART_BEFORE * epochs))
    for hook in hooks:
        if "switch_epoch" in hook:
            hook.update(switch_epoch=first, switch_pipeline=whole)
        else:
            # The hook counts from the epoch before.
            hook.num_last_epochs = epochs - first - 1
    wrapper = next((node for node in walk(source) if type_name(node) == _WRAPPER), None)
    if wrapper is None:
        return dataset(_pipeline(source)), hooks
    return dict(wrapper, dataset=dataset(_pipeline(wrapper.dataset))), hooks


def _pipeline(source: ConfigDict) -> list[dict]:
    return next(node.pipeline for node in walk(source) if node.get("pipeline"))


def _fit(steps, factor: float) -> None:
    """Scale the sizes inside ``steps``, in place."""
    for step in walk(steps):
        for key in _SIZES:
            if isinstance(step.get(key), (int, list, tuple)):
                step[key] = _scaled(step[key], factor)
        if "poly2mask" in step:
            # The generated masks are run-length codes.
            step.poly2mask = True


def _scaled(value, factor: float):
    if isinstance(value, (list, tuple)):
        return tuple(_scaled(side, factor) for side in value)
    return round(value * factor)
