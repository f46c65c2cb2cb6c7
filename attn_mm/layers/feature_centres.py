"""A centre per class and the loss that draws its samples' features to it.

Hu et al., See Better Before Looking Closer, 2019, "Attention Regularization" (https://arxiv.org/abs/1901.09891),
after the centre loss of Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition,
ECCV 2016 (https://doi.org/10.1007/978-3-319-46478-7_31).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeatureCentres(nn.Module):
    """Centre loss: the squared distance between features and their class's centre.

    The loss of a sample is the sum over parts of ||f - c||^2; the loss of a batch is the mean. The centres
    start at 0; :meth:`update` moves them by c <- c + beta (f - c) for every sample of the batch.

    Args:
        num_classes: number of classes.
        features: D, length of a sample's features, all parts together.
        beta: step size of the updates; 0.05 in the authors' code.
        normalise: whether the loss and the update use c / ||c||, as the authors' code does, or c
            itself, as in the equations.
    """

    centres: Tensor

    def __init__(self, num_classes: int, features: int, beta: float = 0.05, normalise: bool = True) -> None:
        super().__init__()
        self.beta, self.normalise = beta, normalise
        self.register_buffer("centres", torch.zeros(num_classes, features))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Compute the scalar loss of features ``(N, D)`` with classes ``(N,)``."""
        return (features - self._of(labels)).square().sum(1).mean()

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the centres of the classes ``labels`` ``(N,)`` towards their ``features`` ``(N, D)``."""
        steps = self.beta * (features.to(self.centres.dtype) - self._of(labels))
        self.centres.index_add_(0, labels, steps)

    def _of(self, labels: Tensor) -> Tensor:
        centres = self.centres[labels]
        return F.normalize(centres, dim=1) if self.normalise else centres
