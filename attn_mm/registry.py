"""The scope ``attn_mm``: any framework's config can name ``type='attn_mm.X'`` without an import."""

from collections.abc import Callable
from typing import TypeVar

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry("model", parent=MMENGINE_MODELS, scope="attn_mm", locations=["attn_mm.models.registered"])

_CLASSIFICATION = [
    "attn_mm.datasets.cifar",
    "attn_mm.datasets.coco_labels",
    "attn_mm.datasets.cub",
    "attn_mm.datasets.imagenet_subset",
    "attn_mm.datasets.imagenet_v2",
    "attn_mm.datasets.stanford_dogs",
    "attn_mm.datasets.stl10",
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


def attention_around(remove: Callable[[dict], dict]) -> Callable[[Builder], Builder]:
    """Decorate a function that builds a network with attention from a config.

    Args:
        remove: gives the config of the network without attention; ``attn-mm describe`` compares the two.
    """

    def mark(build: Builder) -> Builder:
        vars(build)["without_attention"] = remove
        return build

    return mark
