"""Measure how much the query determines where a network attends.

Jetley et al., Learn To Pay Attention, ICLR 2018, appendix A.5 and figure 10 (https://arxiv.org/abs/1804.02391).
"""

from __future__ import annotations

import numpy as np


def relative_change(own: np.ndarray, driven: np.ndarray) -> np.ndarray:
    """Compute "the changes in the attention values as a proportion of the original" at each position.

    A softmax may round to 0. The change is 0 if both values are 0, and infinite if only ``own`` is 0.
    """
    with np.errstate(divide="ignore"):
        return np.divide(driven - own, own, out=np.zeros_like(own), where=driven != own)


def shifted_share(own: np.ndarray, driven: np.ndarray) -> float:
    """The share of attention that moves, 0 to 1: the total variation distance of two maps of sum 1."""
    return float(np.abs(driven - own).sum() / 2)
