"""The networks that grafts can read: a file for each family, see :mod:`attn_mm.graft.families.family`.

A file says how its blocks (``FAMILIES``) and its backbones (``SPLITS``) run, either or both, each by the full
name of the class that defines their ``forward``. It imports no framework.
"""

from typing import Any

from attn_mm.graft.families import (
    branched_resnets,
    conv_nexts,
    csp,
    dense_nets,
    inceptions,
    large_kernels,
    meta_formers,
    mobile_nets,
    pose_nets,
    rep_nets,
    resnets,
    shuffle_nets,
    timm,
    torchvision,
    two_branch_nets,
    vgg,
    video_resnets,
)
from attn_mm.graft.families.family import Family, Split

_NETWORKS: Any = (
    branched_resnets,
    conv_nexts,
    csp,
    dense_nets,
    inceptions,
    large_kernels,
    meta_formers,
    mobile_nets,
    pose_nets,
    rep_nets,
    resnets,
    shuffle_nets,
    timm,
    torchvision,
    two_branch_nets,
    vgg,
    video_resnets,
)


def _table(name: str) -> dict:
    return {owner: entry for file in _NETWORKS for owner, entry in getattr(file, name, {}).items()}


FAMILIES: dict[str, Family] = _table("FAMILIES")
"""How each known block runs."""

SPLITS: dict[str, Split] = _table("SPLITS")
"""How each known backbone falls into stages. The stem is part of the first."""
