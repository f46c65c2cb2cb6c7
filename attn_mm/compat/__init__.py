"""Mends of what makes the published OpenMMLab wheels fail on today's torch, NumPy and Python.

Each file names one upstream fault, mends it in ``mend()``, and can be deleted
alone. A mend does nothing where upstream is fine, and imports no framework:
it acts when the framework is imported.
"""

from functools import cache

from attn_mm.compat import (
    checkpoints,
    coco_info,
    drn,
    mmcv_ops,
    numpy_aliases,
    pose_circles,
    ssd,
    sync_batchnorm,
    xtcocotools,
)

_MENDS = (
    numpy_aliases,
    checkpoints,
    sync_batchnorm,
    mmcv_ops,
    drn,
    xtcocotools,
    ssd,
    coco_info,
    pose_circles,
)


@cache
def mend() -> None:
    """Apply every mend; calling it again changes nothing."""
    for module in _MENDS:
        module.mend()
