"""Report, in one line, what a checkpoint gave a grafted module and what in it is new."""

from __future__ import annotations

from collections.abc import Iterable

from mmengine.logging import print_log
from torch import nn


class LoadReport:
    """Mixin: after a load, says how many keys were loaded, new or unexpected.

    Works through ``load_state_dict`` and through mmengine's own loader, alone
    (``init_cfg``) or inside a detector's checkpoint (``load_from``). Nothing is
    said where every key has its counterpart.
    """

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        own = _reported(self.state_dict())
        given = _reported(key[len(prefix) :] for key in state_dict if key.startswith(prefix))
        if own != given:
            print_log(describe_load(self, own, given), logger="current")
        super()._load_from_state_dict(state_dict, prefix, *args)


def _reported(keys: Iterable[str]) -> set[str]:
    # Batch counters are absent from converted and old checkpoints; torch fills them in.
    return {key for key in keys if not key.endswith("num_batches_tracked")}


def describe_load(module: nn.Module, own: set[str], given: set[str]) -> str:
    """One line for the keys ``own`` of ``module`` and the keys ``given`` by a checkpoint."""
    parts = [f"{len(own & given)} of {len(own)} keys loaded"]
    for word, keys in (("new", own - given), ("unexpected", given - own)):
        if keys:
            parts.append(f"{len(keys)} {word} ({_abridge(keys)})")
    return f"{type(module).__name__}: {', '.join(parts)}"


def _abridge(keys: set[str], most: int = 4) -> str:
    """The keys' common heads: 'anars.0' for all its parameters."""
    heads = sorted({".".join(key.split(".")[:2]) for key in keys})
    more = len(heads) - most
    return ", ".join(heads[:most]) + (f", and {more} more" if more > 0 else "")
