"""The scope ``attn_mm``: any framework's config can name ``type='attn_mm.X'`` without an import."""

from collections.abc import Callable
from enum import IntEnum
from typing import TypeVar

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry("model", parent=MMENGINE_MODELS, scope="attn_mm", locations=["attn_mm.models"])
GRAFTS = Registry("graft", scope="attn_mm", locations=["attn_mm.models.grafts"])

_CLASSIFICATION = [
    "attn_mm.datasets.cifar",
    "attn_mm.datasets.coco_labels",
    "attn_mm.datasets.cub",
    "attn_mm.datasets.imagenet_v2",
    "attn_mm.datasets.stanford_dogs",
    "attn_mm.datasets.svhn",
]
"""Modules of mmpretrain's data sets, which import it: when a config names one of them."""

DATASETS = Registry("dataset", parent=MMENGINE_DATASETS, scope="attn_mm", locations=_CLASSIFICATION)
TRANSFORMS = Registry(
    "transform",
    parent=MMENGINE_TRANSFORMS,
    scope="attn_mm",
    locations=["attn_mm.datasets.transforms", "attn_mm.datasets.video_transforms"],
)

Builder = TypeVar("Builder", bound=Callable)


class Turn(IntEnum):
    """When a graft is applied, whatever its place in the config; those of one turn keep their order."""

    CONVOLUTIONS = 0
    LAYERS = 1
    BLOCKS = 2
    FLOWS = 3
    """What runs the whole backbone in flows: a backbone has only one such graft."""
    NETWORK = 4


def graft(name: str, turn: Turn) -> Callable[[Builder], Builder]:
    """Decorate a function ``(backbone, **options) -> new modules`` that is the graft ``attn_mm.<name>``."""

    def register(function: Builder) -> Builder:
        vars(function)["turn"] = turn
        return GRAFTS.register_module(name=name, module=function)

    return register


def find_graft(name: object) -> Callable | None:
    """The graft of that name in a config, such as ``attn_mm.TD``; None where there is none."""
    return GRAFTS.get(name) if isinstance(name, str) and name.startswith("attn_mm.") else None


def attention_around(remove: Callable[[dict], dict]) -> Callable[[Builder], Builder]:
    """Decorate a function that builds a network with attention from a config.

    Args:
        remove: gives the config of the network without attention; ``tools/describe.py`` compares the two.
    """

    def mark(build: Builder) -> Builder:
        vars(build)["without_attention"] = remove
        return build

    return mark
