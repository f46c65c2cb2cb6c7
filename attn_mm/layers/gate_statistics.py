"""Mean and variance of a gate, which the TAM paper uses to show whether gates are static.

Tree-structured Attention Module for Image Classification, anonymous, submitted to ICLR 2020
(https://openreview.net/forum?id=r1xBoxBYDH), section 4.1, figure 3.
"""

from __future__ import annotations

import torch
from torch import Tensor


class GateStatistics:
    """Mean and variance of a gate, per sample and over all samples.

    TAM's gate has one value per position, SE's one per channel.

    Figure 3 plots ``sample_variance`` against ``sample_mean``, one dot per
    sample. All are float64; variances divide by the number of values.
    """

    def __init__(self) -> None:
        self._batches: list[Tensor] = []

    def update(self, gate: Tensor) -> None:
        """Add the gate of one batch, ``(N, ...)``: TAM's ``(N, 1, *size)``, SE's ``(N, C, 1, 1)``."""
        values = gate.detach().flatten(1).double()
        mean, number = values.mean(1), torch.full_like(values[:, 0], values.shape[1])
        self._batches.append(torch.stack([mean, values.var(1, correction=0), number]))

    def _samples(self) -> Tensor:
        if not self._batches:
            raise RuntimeError("no gate statistics: the gate did not run while they were collected")
        return torch.cat([batch.cpu() for batch in self._batches], dim=1)

    @property
    def count(self) -> int:
        """Number of samples."""
        return sum(batch.shape[1] for batch in self._batches)

    @property
    def sample_mean(self) -> Tensor:
        """Mean over the values of each sample, ``(count,)``."""
        return self._samples()[0]

    @property
    def sample_variance(self) -> Tensor:
        """Variance over the values of each sample, ``(count,)``."""
        return self._samples()[1]

    @property
    def mean(self) -> float:
        """Mean over all values of all samples."""
        mean, _, number = self._samples()
        return (mean @ number / number.sum()).item()

    @property
    def variance(self) -> float:
        """Variance over all values of all samples."""
        mean, variance, number = self._samples()
        spread = variance + (mean - self.mean) ** 2
        return (spread @ number / number.sum()).item()
