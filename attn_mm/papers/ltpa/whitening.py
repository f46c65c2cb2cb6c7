"""ZCA-whiten images as pylearn2 does for CIFAR.

Jetley et al., Learn To Pay Attention, ICLR 2018, appendix A.4 (https://arxiv.org/abs/1804.02391), whiten
"all the evaluation datasets" by the scripts that https://github.com/szagoruyko/wide-residual-networks
names: pylearn2's make_cifar10_gcn_whitened.py, which normalises contrasts and whitens. Its constants are
the defaults.
"""

from __future__ import annotations

import numpy as np


def normalise_contrast(images: np.ndarray, scale: float = 55.0) -> np.ndarray:
    """Subtract each image's mean, scale to norm ``scale``; ``(n, d)``, float64; constant images become 0."""
    centred = images - images.mean(axis=1, keepdims=True, dtype=np.float64)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred * (scale / np.where(norms > 1e-8 * scale, norms, scale))


def zca(images: np.ndarray, bias: float = 0.1) -> np.ndarray:
    """Whiten images by (C + bias I)^(-1/2), where C is their covariance.

    If n < d, the n x n matrix of the images' products gives the same result in less time.

    Args:
        images: ``(n, d)``.
        bias: added to the variances, so that directions without variance aren't amplified.

    Returns:
        ``(n, d)``, float64, of mean 0.
    """
    centred = images - images.mean(axis=0, dtype=np.float64)
    number, size = centred.shape
    if number < size:
        # X (X'X / n + bias I)^(-1/2) = (XX' / n + bias I)^(-1/2) X.
        return _inverse_root(centred @ centred.T / number, bias) @ centred
    return centred @ _inverse_root(centred.T @ centred / number, bias)


def _inverse_root(covariance: np.ndarray, bias: float) -> np.ndarray:
    variances, directions = np.linalg.eigh(covariance)
    # Rounding may leave a variance of 0 slightly below it.
    return directions / np.sqrt(variances.clip(0) + bias) @ directions.T
