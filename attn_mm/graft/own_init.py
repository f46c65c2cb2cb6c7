"""Grafted modules that keep their own initialization, whatever the backbone does to its layers."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn


class OwnStart(nn.Module):
    """Mixin: a module that initializes itself, or modules that it knows, by its own rule.

    mmengine calls ``init_weights`` after the parent's own rules and before it loads a checkpoint.
    mmaction's ``ResNet3d`` and mmcv's ``VGG`` initialize every layer and never call it
    (mmaction/models/backbones/resnet3d.py:859, mmcv/cnn/vgg.py:127); ``started`` says whether it ran.
    """

    started = False

    @abstractmethod
    def start(self) -> None:
        """Apply the rule."""

    def init_weights(self) -> None:
        self.start()
        self.started = True
