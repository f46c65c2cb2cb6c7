"""A classifier whose most confident computation step counts, in training and in evaluation.

Jaiswal, Fernando & Tan, TDAM, ECCV 2022 (https://arxiv.org/abs/2111.13470), section 4.1: "for models with
our TD module, which output localized object predictions at each computation step [...], we only consider the
most confident prediction during both training and evaluation". What the network says at a step is what it
gives when the last stage stops after it, see :mod:`attn_mm.graft.early_stop`.
"""

from __future__ import annotations

import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.models.heads import MultiLabelClsHead
from torch import Tensor

from attn_mm.errors import ConfigError
from attn_mm.graft.early_stop import feedback_steps, stopped_after
from attn_mm.layers.ops.execution import as_written


class ConfidentStep(ImageClassifier):
    """mmpretrain's classifier on a backbone with the graft ``attn_mm.TD``, for one class an image.

    Of each image the step counts that gives a class the highest probability; of equals the earliest. Its
    scores are predicted, and its loss is minimised. The network runs once for each step: time and, in
    training, memory grow with their number. Any checkpoint of the plain classifier fits.

    Args:
        backbone, head, neck, pretrained, train_cfg, data_preprocessor, init_cfg: as of ``ImageClassifier``.

    Raises:
        ConfigError: the backbone has no feedback, or the head is a multi-label one.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if feedback_steps(self) == 1:
            raise ConfigError("ConfidentStep needs a backbone with the graft attn_mm.TD")
        if isinstance(self.head, MultiLabelClsHead):
            raise ConfigError(
                f"ConfidentStep is for one class an image, and {type(self.head).__name__} is not"
            )

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = "tensor"):
        """As of ``ImageClassifier``; the mode ``'tensor'`` gives :meth:`confident_scores`."""
        return (
            self.confident_scores(inputs) if mode == "tensor" else super().forward(inputs, data_samples, mode)
        )

    def confident_scores(self, inputs: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` -> each one's scores before softmax at its step, ``(N, classes)``."""
        steps = []
        for step in range(1, feedback_steps(self) + 1):
            # In one backward pass a norm can't have run both as written and in the shortcut of a step's top.
            with stopped_after(self, step), as_written():
                steps.append(self.head(self.extract_feat(inputs)))
        scores = torch.stack(steps)
        best = scores.detach().softmax(2).amax(2).argmax(0)
        return scores[best, torch.arange(len(inputs), device=inputs.device)]

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Images ``(N, 3, H, W)`` and mmpretrain's data samples -> the head's loss at each image's step."""
        return self.head._get_loss(self.confident_scores(inputs), data_samples)

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Images ``(N, 3, H, W)`` -> data samples with the probabilities of each image's step."""
        return self.head._get_predictions(self.confident_scores(inputs), data_samples)
