"""Classification by the features of parts that the head finds.

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
    """Attention maps by a 1x1 convolution, BN and ReLU; bilinear attention pooling; a linear classifier.

    BN and ReLU are the authors' code's, as is ``scale``; the paper names the convolution alone.

    Args:
        num_classes: number of classes.
        in_channels: C, channels of the backbone's last map.
        parts: M, the number of attention maps; 32 in the paper.
        scale: of the feature matrix, whose norm is 1, before the classifier.
        beta, normalise_centres: see :class:`attn_mm.layers.feature_centres.FeatureCentres`.
        centre_weight: lambda, of the centre loss beside the classification's.
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
        # A plain name would be looked up in the default scope, which may be another framework's.
        super().__init__(loss or dict(type="mmpretrain.CrossEntropyLoss"), init_cfg=init_cfg)
        self.scale, self.centre_weight = scale, centre_weight
        self.attention = nn.Sequential(
            nn.Conv2d(in_channels, parts, 1, bias=False), nn.BatchNorm2d(parts), nn.ReLU(inplace=True)
        )
        self.fc = nn.Linear(parts * in_channels, num_classes)
        self.centres = FeatureCentres(num_classes, parts * in_channels, beta, normalise_centres)

    def attend(self, feats: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The backbone's outputs -> attention maps ``(N, M, H, W)``, features ``(N, M * C)`` of norm 1."""
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
        """Features ``(N, M * C)`` -> scores ``(N, num_classes)``."""
        return self.fc(self.scale * features)

    def pre_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """The features, ``(N, M * C)``."""
        return self.attend(feats)[1]

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """The backbone's outputs -> scores ``(N, num_classes)``."""
        return self.classify(self.pre_logits(feats))

    def centre_loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """The weighted centre loss of features ``(N, M * C)``; the centres, alike everywhere, follow."""
        loss = self.centre_weight * self.centres(features, labels)
        gathered = (torch.cat(all_gather(tensor.contiguous())) for tensor in (features.detach(), labels))
        self.centres.update(*gathered)
        return loss
