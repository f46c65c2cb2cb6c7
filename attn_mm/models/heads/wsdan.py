"""Classification head of WS-DAN: it finds parts by attention maps and classifies their features.

Hu et al., See Better Before Looking Closer, 2019, "Weakly Supervised Attention Learning"
(https://arxiv.org/abs/1901.09891).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.dist import all_gather
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from attn_mm.layers.bap import bilinear_attention_pooling
from attn_mm.layers.feature_centres import FeatureCentres
from attn_mm.layers.recording import Attention, AttentionKind

_PAPER = "Hu et al., See Better Before Looking Closer, 2019"
OBJECT = AttentionKind(
    "WS-DAN: the object",
    _PAPER,
    "The mean of the parts' maps; where it is high the image is cropped for the second look.",
    bounds=None,
)
PART = AttentionKind(
    "WS-DAN: parts",
    _PAPER,
    "How strongly this position belongs to the part: the weight of its features in the part's.",
    bounds=None,
)


class WSDANHead(ClsHead):
    """Head of attention maps (1x1 convolution, BN, ReLU), bilinear attention pooling and a linear classifier.

    BN, ReLU and ``scale`` follow the authors' code; the paper mentions only the convolution.

    Args:
        num_classes: number of classes.
        in_channels: C, channels of the backbone's last map.
        parts: M, the number of attention maps; 32 in the paper.
        scale: factor of the feature matrix, whose norm is 1, before the classifier.
        beta, normalise_centres: see :class:`attn_mm.layers.feature_centres.FeatureCentres`.
        centre_weight: lambda, the weight of the centre loss relative to the classification loss.
        loss, init_cfg: as in mmpretrain's ``ClsHead``.
    """

    recorded_call = "attend"

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        parts: int = 32,
        scale: float = 100.0,
        beta: float = 0.05,
        normalise_centres: bool = True,
        centre_weight: float = 1.0,
        loss: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        # Without a scope the name would be looked up in the default scope, maybe another framework's.
        super().__init__(loss or dict(type="mmpretrain.CrossEntropyLoss"), init_cfg=init_cfg)
        self.scale, self.centre_weight = scale, centre_weight
        self.attention = nn.Sequential(
            nn.Conv2d(in_channels, parts, 1, bias=False), nn.BatchNorm2d(parts), nn.ReLU(inplace=True)
        )
        self.fc = nn.Linear(parts * in_channels, num_classes)
        self.centres = FeatureCentres(num_classes, parts * in_channels, beta, normalise_centres)

    def attend(self, feats: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute attention maps and part features from the backbone's outputs.

        Returns:
            The maps, ``(N, M, H, W)``, and the features, ``(N, M * C)``, with norm 1.
        """
        maps = self.attention(feats[-1])
        return maps, bilinear_attention_pooling(feats[-1], maps).flatten(1)

    def recorded(self, run, feats: Sequence[Tensor]) -> tuple[tuple[Tensor, Tensor], list[Attention]]:
        """See :mod:`attn_mm.layers.recording`."""
        output = run(feats)
        parts = output[0].split(1, dim=1)
        found = [Attention(OBJECT, output[0].mean(1, keepdim=True))]
        found += [Attention(PART, values, {"part": number}) for number, values in enumerate(parts, 1)]
        return output, found

    def classify(self, features: Tensor) -> Tensor:
        """Compute scores ``(N, num_classes)`` from features ``(N, M * C)``."""
        return self.fc(self.scale * features)

    def pre_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """Compute the features, ``(N, M * C)``, from the backbone's outputs."""
        return self.attend(feats)[1]

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Compute scores ``(N, num_classes)`` from the backbone's outputs."""
        return self.classify(self.pre_logits(feats))

    def centre_loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Compute the weighted centre loss of features ``(N, M * C)``, then update the centres.

        The update uses the batches of all processes, so that the centres are the same in all.
        """
        loss = self.centre_weight * self.centres(features, labels)
        gathered = (torch.cat(all_gather(tensor.contiguous())) for tensor in (features.detach(), labels))
        self.centres.update(*gathered)
        return loss
