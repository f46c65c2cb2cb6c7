"""Patches of bugs that make the published OpenMMLab wheels crash on today's torch, NumPy and Python.

Each file names one upstream bug, patches it in ``patch()``, and can be deleted alone. A patch does nothing if
upstream doesn't have the bug. It imports no framework: it runs when the framework is imported.
"""

from functools import cache

from attn_mm.compat import (
    checkpoints,
    coco_info,
    drn,
    external_configs,
    mmcv_ops,
    numpy_aliases,
    pose_circles,
    ssd,
    sync_batchnorm,
    xtcocotools,
)

_PATCHED = (
    numpy_aliases,
    checkpoints,
    external_configs,
    sync_batchnorm,
    mmcv_ops,
    drn,
    xtcocotools,
    ssd,
    coco_info,
    pose_circles,
)


@cache
def patch() -> None:
    """Apply every patch. A second call does nothing."""
    for module in _PATCHED:
        module.patch()
