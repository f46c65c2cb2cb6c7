"""Make an input for a model of any framework, to measure, draw or export it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor, nn

from attn_mm.frameworks import get_framework, known_frameworks
from attn_mm.frameworks.framework import Framework


def input_shape(cfg: Config) -> tuple[int, ...]:
    """The shape of one input that a config's pipeline makes, without the batch.

    ``(3, h, w)`` for an image, ``(3, T, h, w)`` for a clip, ``(T, 3, h, w)`` for frames of a 2D network.
    """
    return _framework(cfg.get("default_scope")).input_shape(cfg)


def forward_arguments(
    model: nn.Module, scope: str | None, shape: Sequence[int], device: str
) -> tuple[Tensor, dict]:
    """What runs ``model`` on one random input up to the outputs of its heads: ``model(x, **kwargs)``.

    Args:
        model: any network.
        scope: ``default_scope`` of its config; if that is not registered, the model is run as one of images.
        shape: of the input, as of :func:`input_shape`.
        device: where the input is made.

    Returns:
        ``x``, with a batch of one, and ``kwargs``.
    """
    x = torch.rand(1, *shape, device=device)
    return _framework(scope).forward_arguments(model, x) if isinstance(model, BaseModel) else (x, {})


def _framework(scope: str | None) -> Framework:
    return get_framework(scope) if scope in known_frameworks() else Framework()
