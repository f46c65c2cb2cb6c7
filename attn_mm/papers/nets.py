"""Configs that several papers' tables share, as a user of mmpretrain writes them."""

from __future__ import annotations

from typing import Any


def attended(backbone: dict[str, Any], *grafts: dict[str, Any]) -> dict[str, Any]:
    """``backbone`` with these grafts; without any it is left as it is."""
    if not grafts:
        return backbone
    return dict(type="attn_mm.AttnBackbone", backbone=backbone, grafts=list(grafts))


def classifier(backbone: dict[str, Any], channels: int = 2048, classes: int = 1000) -> dict[str, Any]:
    """A classifier on the average of the ``channels`` features of ``backbone``."""
    return dict(
        type="ImageClassifier",
        backbone=backbone,
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", num_classes=classes, in_channels=channels),
    )


def resnet(depth: int, **options) -> dict[str, Any]:
    """ResNet for ImageNet."""
    return dict(type="ResNet", depth=depth, **options)


def cifar_resnet(depth: int, **options) -> dict[str, Any]:
    """ResNet for 32x32 images: a 3x3 stem of stride 1 and no pooling behind it."""
    return dict(type="ResNet_CIFAR", depth=depth, **options)


def resnet_channels(depth: int) -> int:
    """Channels of the last features of a ResNet."""
    return 512 if depth < 50 else 2048
