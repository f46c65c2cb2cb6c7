"""The networks that grafts can read: a file for each family, see :mod:`attn_mm.graft.families.family`.

A file says how its blocks (``FAMILIES``) and its backbones (``SPLITS``) run, each by the full name of the
class that defines their ``forward``. It imports no framework.
"""

from attn_mm.graft.families import mobile_nets, resnets, vgg
from attn_mm.graft.families.family import Family, Split

_NETWORKS = (mobile_nets, resnets, vgg)

FAMILIES: dict[str, Family] = {name: of for file in _NETWORKS for name, of in file.FAMILIES.items()}
"""How each known block runs."""

SPLITS: dict[str, Split] = {name: of for file in _NETWORKS for name, of in file.SPLITS.items()}
"""How each known backbone falls into stages. The stem is part of the first."""
