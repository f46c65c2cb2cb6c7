"""What grafted modules start at, whatever the backbone's own rules make of them."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn


class OwnStart(nn.Module):
    """Mixin: a module that sets what is in it, or what it knows of, by a rule of its own.

    mmengine calls ``init_weights`` after the rules of what holds the module and before a
    checkpoint. mmaction's ``ResNet3d`` and mmcv's ``VGG`` draw every layer anew and never call it
    (mmaction/models/backbones/resnet3d.py:859, mmcv/cnn/vgg.py:127): ``started`` tells.
    """

    started = False

    @abstractmethod
    def start(self) -> None:
        """Apply the rule."""

    def init_weights(self) -> None:
        self.start()
        self.started = True
