"""Classification by attended local features alone.

Jetley et al., Learn To Pay Attention, ICLR 2018, sections 3.1 and 4
(https://arxiv.org/abs/1804.02391).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from attn_mm.layers.ltpa import LearnToPayAttention


class LTPAHead(ClsHead):
    """Attend every level's local features to the global one and classify what was attended.

    Each level's vector passes BN, ReLU and dropout. ``'concat'`` gives them to one
    linear classifier together; ``'indep'`` gives each to its own and averages the
    probabilities. The paper trains "under a cross-entropy loss" and averages "the
    output class probabilities": the loss of ``'indep'`` is the cross-entropy of the
    average, and the scores are its logarithm, so that their softmax is the average
    itself. (One of the authors' released files adds the logits instead.)

    The global feature is projected to the local ones' width, where they differ, by
    BN, ReLU, dropout 0.5 and a linear layer, once for each width (section 4). The
    paper's networks give the global feature as a vector; of a map its mean is taken,
    so that the last output of any staged backbone serves.

    Args:
        num_classes: number of classes.
        local_channels: channels of each level's map, in the order of the backbone's outputs.
        global_channels: channels of the global feature.
        compatibility: ``'pc'`` or ``'dp'``, see :class:`attn_mm.layers.LearnToPayAttention`.
        combine: ``'concat'`` or ``'indep'``.
        dropout: rate before the classifiers.
        loss, topk, cal_acc, init_cfg: as in mmpretrain's ``ClsHead``.

    Raises:
        ValueError: an unknown ``compatibility`` or ``combine``, no level, or features
            that are not one more than the levels.
    """

    def __init__(
        self,
        num_classes: int,
        local_channels: Sequence[int],
        global_channels: int,
        compatibility: Literal["pc", "dp"] = "pc",
        combine: Literal["concat", "indep"] = "concat",
        dropout: float = 0.5,
        **cls_head,
    ) -> None:
        # A plain name would be looked up in the default scope, which may be another framework's.
        super().__init__(**{"loss": dict(type="mmpretrain.CrossEntropyLoss", loss_weight=1.0), **cls_head})
        if not local_channels:
            raise ValueError("local_channels must name at least one level")
        if combine not in ("concat", "indep"):
            raise ValueError(f"combine must be 'concat' or 'indep', got {combine!r}")
        self.local_channels = list(local_channels)
        self.projections = nn.ModuleDict(
            {
                str(width): nn.Sequential(
                    *_activation(global_channels, 0.5), nn.Linear(global_channels, width)
                )
                for width in sorted(set(local_channels) - {global_channels})
            }
        )
        self.attentions = nn.ModuleList(
            LearnToPayAttention(c, c, compatibility, projection=None) for c in local_channels
        )
        self.activations = nn.ModuleList(nn.Sequential(*_activation(c, dropout)) for c in local_channels)
        widths = [sum(local_channels)] if combine == "concat" else local_channels
        self.classifiers = nn.ModuleList(nn.Linear(width, num_classes) for width in widths)

    def attend(self, maps: Sequence[Tensor], global_: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Vectors ``(N, C)`` and attention maps ``(N, 1, H, W)`` of local features ``(N, C, H, W)``.

        The global feature ``(N, global_channels)`` may be another image's: query-driven
        attention (appendix A.5). One of ``(N, global_channels, h, w)`` is averaged.
        """
        if global_.dim() > 2:
            global_ = global_.flatten(2).mean(2)
        projected = {width: project(global_) for width, project in self.projections.items()}
        attended = [
            attention(local, projected.get(str(width), global_))
            for attention, local, width in zip(self.attentions, maps, self.local_channels)
        ]
        vectors, attentions = zip(*attended)
        return list(vectors), list(attentions)

    def attention_maps(self, feats: Sequence[Tensor]) -> list[Tensor]:
        """Each level's attention map ``(N, 1, H, W)`` for the backbone's outputs."""
        *maps, global_ = self._checked(feats)
        return self.attend(maps, global_)[1]

    def pre_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """The classifiers' inputs side by side, ``(N, sum(local_channels))``."""
        *maps, global_ = self._checked(feats)
        vectors, _ = self.attend(maps, global_)
        return torch.cat([act(vector) for act, vector in zip(self.activations, vectors)], 1)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """The maps of every level, then the global feature -> scores ``(N, num_classes)``."""
        features = self.pre_logits(feats)
        if len(self.classifiers) == 1:
            return self.classifiers[0](features)
        levels = features.split(self.local_channels, 1)
        logs = [classify(level).log_softmax(1) for classify, level in zip(self.classifiers, levels)]
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))

    def _checked(self, feats: Sequence[Tensor]) -> Sequence[Tensor]:
        if len(feats) != len(self.attentions) + 1:
            raise ValueError(
                f"{len(self.attentions)} levels take their maps and then the global feature, "
                f"got {len(feats)} features"
            )
        return feats


def _activation(channels: int, dropout: float) -> list[nn.Module]:
    return [nn.BatchNorm1d(channels), nn.ReLU(inplace=True), nn.Dropout(dropout)]
