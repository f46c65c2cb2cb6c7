"""A centre for each class, to which its samples' features are drawn.

Hu et al., See Better Before Looking Closer, 2019, "Attention Regularization" (https://arxiv.org/abs/1901.09891),
after the centre loss of Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition,
ECCV 2016 (https://doi.org/10.1007/978-3-319-46478-7_31).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeatureCentres(nn.Module):
    """The squared distance of features from their class's centre, which follows them.

    The loss of a sample is the sum over parts of ||f - c||^2, that of a batch the mean. The centres
    start at 0; :meth:`update` moves them by c <- c + beta (f - c), for every sample of the batch.

    Args:
        num_classes: number of classes.
        features: D, length of a sample's features, all parts together.
        beta: of each update; the authors' code has 0.05.
        normalise: compare with c / ||c||, in the loss and in the update, as the authors' code
            does; False: with c itself, as the equations have it.
    """

    centres: Tensor

    def __init__(self, num_classes: int, features: int, beta: float = 0.05, normalise: bool = True) -> None:
        super().__init__()
        self.beta, self.normalise = beta, normalise
        self.register_buffer("centres", torch.zeros(num_classes, features))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Features ``(N, D)`` and classes ``(N,)`` -> the loss, a scalar."""
        return (features - self._of(labels)).square().sum(1).mean()

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the centres of the classes ``(N,)`` towards their features ``(N, D)``."""
        steps = self.beta * (features.to(self.centres.dtype) - self._of(labels))
        self.centres.index_add_(0, labels, steps)

    def _of(self, labels: Tensor) -> Tensor:
        centres = self.centres[labels]
        return F.normalize(centres, dim=1) if self.normalise else centres
