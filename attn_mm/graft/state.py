"""Report in one line which keys of a grafted module a checkpoint loaded and which are new."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate

from torch import nn


class LoadReport(nn.Module):
    """Mixin: logs, when a checkpoint is loaded, how many keys are loaded, new or unexpected.

    It works with ``load_state_dict`` and with mmengine's own loader, for the module
    alone (``init_cfg``) or as part of a detector's checkpoint (``load_from``). It logs
    nothing if all keys match and load unchanged.
    """

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args) -> None:
        own = reported_keys(self.state_dict())
        given = reported_keys(key[len(prefix) :] for key in state_dict if key.startswith(prefix))
        inflated = local_metadata.get("inflated", 0)
        if own != given or inflated:
            _log(describe_load(self, own, given, inflated))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def _log(line: str) -> None:
    """Log ``line`` where mmengine logs, if it runs, and otherwise to Python's logger ``attn_mm``."""
    if "mmengine.logging" not in sys.modules:
        logging.getLogger("attn_mm").info(line)
        return
    from mmengine.logging import print_log

    print_log(line, logger="current")


def reported_keys(keys: Iterable[str]) -> set[str]:
    """Those of ``keys`` that count: old checkpoints have no batch counters; torch fills them in."""
    return {key for key in keys if not key.endswith("num_batches_tracked")}


def describe_load(module: nn.Module, own: set[str], given: set[str], inflated: int = 0) -> str:
    """Describe a load in one line.

    Args:
        module: the module that was loaded into.
        own: its keys.
        given: the keys of the checkpoint.
        inflated: how many of the loaded keys were inflated from 2D to 3D.

    Returns:
        Such as ``ResNet: 318 of 324 keys loaded, 6 new (layer4.0.td)``.
    """
    loaded = len(own & given)
    parts = [f"{loaded} of {len(own)} keys loaded"]
    if inflated:
        parts.append(f"{inflated} inflated and {loaded - inflated} as they are")
    for word, keys in (("new", own - given), ("unexpected", given - own)):
        if keys:
            parts.append(f"{len(keys)} {word} ({_abridge(keys, own & given)})")
    return f"{type(module).__name__}: {', '.join(parts)}"


def _abridge(keys: set[str], loaded: set[str], most: int = 4) -> str:
    """List the keys by their shortest prefixes that no loaded key has: 'layer3.0.td' for all keys in it."""
    known = {head for key in loaded for head in accumulate(key.split("."), "{}.{}".format)}
    heads = sorted({_head(key, known) for key in keys})
    more = len(heads) - most
    return ", ".join(heads[:most]) + (f", and {more} more" if more > 0 else "")


def _head(key: str, known: set[str]) -> str:
    heads = list(accumulate(key.split("."), "{}.{}".format))
    return next((head for head in heads[1:] if head not in known), key)


_TORCHVISION_NAMES = (
    (r"downsample\.conv\.", "downsample.0."),
    (r"downsample\.bn\.", "downsample.1."),
    (r"(conv\d+)\.conv\.", r"\1."),
    (r"conv(\d+)\.bn\.", r"bn\1."),
)


@contextmanager
def reports_copies(backbone: nn.Module) -> Iterator[None]:
    """In this context, report a load that copies a checkpoint tensor by tensor.

    mmaction loads this way with ``pretrained='torchvision://...'`` and with
    ``pretrained2d=True``, without using state dicts. Copies through ``.data`` leave no
    trace, so the tensors are filled with NaN first: what is overwritten was loaded.

    Args:
        backbone: the backbone about to load its checkpoint.
    """
    by_copy = getattr(backbone, "pretrained2d", getattr(backbone, "torchvision_pretrain", False))
    if not by_copy or not isinstance(backbone.pretrained, str):
        yield
        return
    state = {key: value for key, value in backbone.state_dict().items() if value.is_floating_point()}
    before = {key: value.clone() for key, value in state.items()}
    for value in state.values():
        value.fill_(float("nan"))
    try:
        yield
    finally:
        new = {key for key, value in state.items() if value.isnan().any()}
        for key in new:
            state[key].copy_(before[key])
    own = reported_keys(state)
    names = {key: torchvision_name(key) for key in own}
    given = reported_keys(_checkpoint_keys(backbone.pretrained)) - {names[key] for key in own - new}
    _log(describe_load(backbone, own, (own - new) | given))


def torchvision_name(key: str) -> str:
    """Convert the ``key`` of an mmaction ResNet to the name in torchvision, mmdet, mmpose and mmpretrain."""
    for pattern, name in _TORCHVISION_NAMES:
        key = re.sub(pattern, name, key)
    return key


def _checkpoint_keys(filename: str) -> Iterable[str]:
    # Only mmaction copies tensor by tensor, which brings mmengine.
    from mmengine.runner.checkpoint import _load_checkpoint

    checkpoint = _load_checkpoint(filename, map_location="cpu")
    return checkpoint.get("state_dict", checkpoint).keys()
