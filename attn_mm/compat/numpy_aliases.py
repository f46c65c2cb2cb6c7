"""Names that NumPy removed but the frameworks still use.

============  =======  ==========================================================
name          gone in  used by
============  =======  ==========================================================
``float``     1.24     mmdet 3.3.0 evaluation/functional/ytviseval.py:444,
                       mmcv 2.1.0 ops/pixel_group.py:79
``long``      1.24     mmdet 3.3.0 datasets/transforms/text_transformers.py:63;
                       back since 2.0
``Inf``       2.0      mmaction2 1.2.0 datasets/transforms/pose_transforms.py:505,
                       utils/misc.py:66
``NAN``       2.0      mmaction2 1.2.0 evaluation/functional/ava_evaluation/metrics.py:88
``in1d``      2.4      mmaction2 1.2.0 evaluation/metrics/multimodal_metric.py:514,
                       mmpretrain 1.2.0 evaluation/metrics/retrieval.py:182
``trapz``     2.4      mmaction2 1.2.0 evaluation/functional/accuracy.py:428
============  =======  ==========================================================

A name is added only if NumPy lacks it, with its old meaning.
"""

from __future__ import annotations

import numpy as np


def _in1d(ar1, ar2, assume_unique=False, invert=False) -> np.ndarray:
    return np.isin(ar1, ar2, assume_unique=assume_unique, invert=invert).ravel()


def patch() -> None:
    aliases = {
        "float": float,
        "long": np.int_,
        "Inf": np.inf,
        "NAN": np.nan,
        "in1d": _in1d,
        "trapz": getattr(np, "trapezoid", None),
    }
    for name, value in aliases.items():
        # NumPy answers hasattr() of some of these names with a warning.
        if name not in vars(np):
            setattr(np, name, value)
