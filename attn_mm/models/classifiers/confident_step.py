"""A classifier that uses each image's most confident computation step, in training and in evaluation.

Jaiswal, Fernando & Tan, TDAM, ECCV 2022 (https://arxiv.org/abs/2111.13470), section 4.1: "for models with
our TD module, which output localized object predictions at each computation step [...], we only consider the
most confident prediction during both training and evaluation". A step's prediction is the output of the
network when its last stage stops after that step, see :mod:`attn_mm.graft.early_stop`.
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
    """mmpretrain's single-label classifier for a backbone with the graft ``attn_mm.TD``.

    For each image it uses the step that gives any class the highest probability, the earliest if tied. It
    predicts the scores of that step and minimises its loss. The network runs once per step, so that time
    and, in training, memory grow with the number of steps. Checkpoints of the plain classifier load.

    Args:
        backbone, head, neck, pretrained, train_cfg, data_preprocessor, init_cfg: as in ``ImageClassifier``.

    Raises:
        ConfigError: the backbone has no feedback, or the head is a multi-label head.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if feedback_steps(self) == 1:
            raise ConfigError("ConfidentStep requires a backbone with the graft attn_mm.TD")
        if isinstance(self.head, MultiLabelClsHead):
            raise ConfigError(
                f"ConfidentStep requires a single-label head, but {type(self.head).__name__} is multi-label"
            )

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = "tensor"):
        """Run as ``ImageClassifier`` does; the mode ``'tensor'`` returns :meth:`confident_scores`."""
        return (
            self.confident_scores(inputs) if mode == "tensor" else super().forward(inputs, data_samples, mode)
        )

    def confident_scores(self, inputs: Tensor) -> Tensor:
        """Compute, for images ``(N, 3, H, W)``, the scores before softmax at each image's step.

        Returns:
            Scores ``(N, classes)``.
        """
        steps = []
        for step in range(1, feedback_steps(self) + 1):
            # A norm that runs both as written and in the shortcut of a step's top breaks the backward pass.
            with stopped_after(self, step), as_written():
                steps.append(self.head(self.extract_feat(inputs)))
        scores = torch.stack(steps)
        best = scores.detach().softmax(2).amax(2).argmax(0)
        return scores[best, torch.arange(len(inputs), device=inputs.device)]

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Compute the head's loss at each image's step for images ``(N, 3, H, W)`` and their samples."""
        return self.head._get_loss(self.confident_scores(inputs), data_samples)

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Predict, for images ``(N, 3, H, W)``, data samples with the probabilities at each image's step."""
        return self.head._get_predictions(self.confident_scores(inputs), data_samples)
