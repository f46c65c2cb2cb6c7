"""Classification head of "Learn To Pay Attention": it classifies only the attended local features.

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
    """Attend to each level's local features with the global feature, and classify the attended vectors.

    Each level's vector goes through BN, ReLU and dropout. ``'concat'`` gives all vectors
    to one linear classifier; ``'indep'`` gives each vector to its own classifier and
    averages the probabilities. The paper trains "under a cross-entropy loss" and averages
    "the output class probabilities": the loss of ``'indep'`` is the cross-entropy of the
    average. The scores are the average's logarithm, so that their softmax is the average.
    (One of the authors' released files adds the logits instead.)

    If the numbers of channels differ, BN, ReLU, dropout 0.5 and a linear layer project the
    global feature to the local features' channels, once for each number (section 4). The
    paper's networks return the global feature as a vector; a map is averaged, so that the
    last output of any staged backbone works.

    Args:
        num_classes: number of classes.
        local_channels: channels of each level's map, in the order of the backbone's outputs.
        global_channels: channels of the global feature.
        compatibility: ``'pc'`` or ``'dp'``, see :class:`attn_mm.layers.LearnToPayAttention`.
        combine: ``'concat'`` or ``'indep'``.
        dropout: dropout rate before the classifiers.
        loss, topk, cal_acc, init_cfg: as in mmpretrain's ``ClsHead``.

    Raises:
        ValueError: an unknown ``compatibility`` or ``combine``, or no level. The forward pass
            raises it unless there is one feature per level and the global feature.
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
        # Without a scope the name would be looked up in the default scope, maybe another framework's.
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
        """Attend to each level's local features with the global feature.

        Args:
            maps: local features, ``(N, C, H, W)`` for each level.
            global_: global feature ``(N, global_channels)``; another image's gives query-driven
                attention (appendix A.5). A map ``(N, global_channels, h, w)`` is averaged.

        Returns:
            For each level the vector ``(N, C)``, and for each level the attention map ``(N, 1, H, W)``.
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
        """Compute each level's attention map, ``(N, 1, H, W)``, from the backbone's outputs."""
        *maps, global_ = self._checked(feats)
        return self.attend(maps, global_)[1]

    def pre_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """Compute the concatenated inputs of the classifiers, ``(N, sum(local_channels))``."""
        *maps, global_ = self._checked(feats)
        vectors, _ = self.attend(maps, global_)
        return torch.cat([act(vector) for act, vector in zip(self.activations, vectors)], 1)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Compute scores ``(N, num_classes)`` from each level's map, followed by the global feature."""
        features = self.pre_logits(feats)
        if len(self.classifiers) == 1:
            return self.classifiers[0](features)
        levels = features.split(self.local_channels, 1)
        logs = [classify(level).log_softmax(1) for classify, level in zip(self.classifiers, levels)]
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))

    def _checked(self, feats: Sequence[Tensor]) -> Sequence[Tensor]:
        if len(feats) != len(self.attentions) + 1:
            raise ValueError(
                f"{len(self.attentions)} levels require one map each and then the global feature, "
                f"got {len(feats)} features"
            )
        return feats


def _activation(channels: int, dropout: float) -> list[nn.Module]:
    return [nn.BatchNorm1d(channels), nn.ReLU(inplace=True), nn.Dropout(dropout)]
