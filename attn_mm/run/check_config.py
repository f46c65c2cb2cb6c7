"""Check the values of a config that would fail late, silently or with a misleading message."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config

from attn_mm.errors import UserError
from attn_mm.utils.config import model_part, walk

_LOG_LEVELS = ("CRITICAL", "FATAL", "ERROR", "WARNING", "WARN", "INFO", "DEBUG", "NOTSET")
_IMAGE_LOADERS = ("LoadImageFromFile", "LoadImage")
_MAX_SEED = 2**32 - 1


def check_config(cfg: Config, splits: Sequence[str]) -> None:
    """Check a config's model, loaders, numbers, seed, log level and classes before a run.

    Args:
        cfg: the config.
        splits: the splits that are used, of ``"train"``, ``"val"`` and ``"test"``.

    Raises:
        UserError: a value is missing or invalid.
    """
    for key in ("model", *[f"{split}_dataloader" for split in splits if split != "val"]):
        kinds = dict if key == "model" else (dict, list)
        _check(isinstance(cfg.get(key), kinds), f"{cfg.filename} has no {key}")
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        if loader is not None:
            _check_loader(loader, f"{split}_dataloader")
    for path, value in _numbers(cfg._cfg_dict):
        _check(not math.isnan(value), f"{path} is not a number: give a finite one")
    for path, value in _numbers(cfg.get("optim_wrapper") or {}, "optim_wrapper"):
        _check(math.isfinite(value), f"{path} is {value}: give a finite number")
    seed = (_as_dict(cfg.get("randomness"), "randomness")).get("seed")
    _check(
        seed is None or (type(seed) is int and 0 <= seed <= _MAX_SEED),
        f"randomness.seed is {seed!r}: give a whole number from 0 to {_MAX_SEED}",
    )
    level = cfg.get("log_level", "INFO")
    _check(
        type(level) is int or level in _LOG_LEVELS,
        f"log_level is {level!r}: give one of {', '.join(_LOG_LEVELS)}",
    )
    schedule = _as_dict(cfg.get("train_cfg"), "train_cfg")
    for key in ("max_epochs", "max_iters", "val_interval"):
        number = schedule.get(key, 1)
        _check(
            isinstance(number, (int, float)) and 1 <= number < math.inf and number == int(number),
            f"train_cfg.{key} is {number!r}: give a whole number of at least 1",
        )
    for owner in (cfg.model.get("data_preprocessor"), cfg.get("data_preprocessor")):
        deviations = owner.get("std") if isinstance(owner, dict) else None
        if isinstance(deviations, (list, tuple)):
            _check(0 not in deviations, f"data_preprocessor.std is {deviations}: 0 can't be divided by")
        means = owner.get("mean") if isinstance(owner, dict) else None
        if isinstance(means, (list, tuple)) and len(means) == 1:
            _check_gray(cfg, splits, means)
    _check_top_k(cfg, splits)
    _check_outputs(cfg)
    _check_flows(cfg)


def _check_flows(cfg: Config) -> None:
    """A classifier's usual neck and head read the last map alone: the other flows would not learn."""
    neck = str(model_part(cfg, "neck").get("type")).rpartition(".")[2]
    for node in walk(cfg.model.get("backbone")):
        kind = str(node.get("type"))
        _check(
            neck != "GlobalAveragePooling" or kind not in ("attn_mm.MultiScale", "attn_mm.FlowPyramid"),
            f"model.neck.type GlobalAveragePooling hands on a map for each of {kind}'s flows, but heads read "
            "the last alone: use attn_mm.PooledConcat",
        )


def _check_outputs(cfg: Config) -> None:
    """Attention behind a map that the neck doesn't read gets no gradient, which stops parallel training."""
    backbone, start = cfg.model.get("backbone"), model_part(cfg, "neck").get("start_level")
    if not isinstance(backbone, dict) or type(start) is not int or start < 1:
        return
    inner = backbone.get("backbone")
    given = inner.get("out_indices") if isinstance(inner, dict) else None
    names = list(given) if isinstance(given, (list, tuple)) else list(range(4))
    for graft in backbone.get("grafts") or []:
        outputs = graft.get("outputs") if isinstance(graft, dict) else None
        wanted = names if outputs == "all" else outputs if isinstance(outputs, (list, tuple)) else []
        unread = [name for name in names[:start] if name in wanted]
        _check(
            not unread,
            f"model.neck starts at level {start}, so {graft.get('type')} behind output {unread} of the "
            f"backbone would not learn: write outputs={tuple(name for name in wanted if name not in unread)}",
        )


def _check(fine: bool, message: str) -> None:
    if not fine:
        raise UserError(message)


def _as_dict(value: Any, name: str) -> dict:
    _check(value is None or isinstance(value, dict), f"{name} must be a dict, not {value!r}")
    return value or {}


def _check_loader(loader: Any, name: str) -> None:
    if isinstance(loader, (list, tuple)):
        # Some loops read several sets.
        for index, one in enumerate(loader):
            _check_loader(one, f"{name}.{index}")
        return
    loader = _as_dict(loader, name)
    _check(isinstance(loader.get("dataset"), dict), f"{name}.dataset must be a dict")
    for node in walk(loader["dataset"]):
        for key in ("ann_file", "data_root"):
            value = node.get(key) or ""
            _check(not isinstance(value, (int, float)), f"{key} of {name}.dataset is {value!r}: give a path")
    for key, least in (("batch_size", 1), ("num_workers", 0)):
        number = loader.get(key, least)
        _check(
            type(number) is int and number >= least,
            f"{name}.{key} is {number!r}: give a whole number of at least {least}",
        )
    if not loader.get("num_workers", 0):
        for key in ("persistent_workers", "prefetch_factor"):
            unset = loader.get(key) is None or loader[key] is False
            _check(unset, f"{name}.{key} needs {name}.num_workers of at least 1")


def _numbers(node: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every float inside a config with its path."""
    if isinstance(node, float):
        yield path, node
    elif isinstance(node, (dict, list, tuple)):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            yield from _numbers(value, f"{path}.{key}" if path else str(key))


def _check_gray(cfg: Config, splits: Sequence[str], means: Sequence[float]) -> None:
    """One mean is for one channel; subtracted from three it would make another network's input in silence."""
    for split in splits:
        steps = [node for node in walk(cfg.get(f"{split}_dataloader") or {}) if "type" in node]
        kinds = [str(step["type"]).rpartition(".")[2] for step in steps]
        for step, kind in zip(steps, kinds):
            colours = kind in _IMAGE_LOADERS and step.get("color_type", "color").startswith("color")
            _check(
                not colours or any("gray" in other.lower() for other in kinds),
                f"data_preprocessor.mean is {list(means)}, and {kind} of the {split} set loads three "
                "channels: give three values, or set color_type='grayscale'",
            )


def _check_top_k(cfg: Config, splits: Sequence[str]) -> None:
    """Top-k accuracy needs k classes; mmpretrain fails in the first step, or only after an epoch."""
    head = model_part(cfg, "head")
    number = head.get("num_classes")
    if type(number) is not int:
        return
    named = [("model.head.topk", head.get("topk"))] if head.get("cal_acc") else []
    for split in splits:
        evaluators = cfg.get(f"{split}_evaluator") or []
        for node in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
            if isinstance(node, dict) and str(node.get("type")).rpartition(".")[2] == "Accuracy":
                named.append((f"{split}_evaluator.topk", node.get("topk")))
    for name, top in named:
        numbers = [k for k in (top if isinstance(top, (list, tuple)) else [top]) if type(k) is int]
        highest = max(numbers, default=1)
        _check(highest <= number, f"{name} asks for the best {highest} of {number} classes: lower it")
