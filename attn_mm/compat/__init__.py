"""Patches of bugs that make the published OpenMMLab wheels crash on today's torch, NumPy and Python.

Each file names one upstream bug, patches it in ``patch()``, and can be deleted alone. A patch does nothing if
upstream doesn't have the bug. What several patches share is in :mod:`attn_mm.compat.lazy` and
:mod:`attn_mm.compat.safe_files`. It imports no framework: it runs when the framework is imported.
"""

from functools import cache

from attn_mm.compat import (
    canvas_rgb,
    checkpoint_configs,
    checkpoint_hook,
    checkpoints,
    coco_info,
    color_jitter,
    config_layout,
    drn,
    external_configs,
    file_handlers,
    find_loader,
    imgaug_bool,
    inherited_bases,
    lighting,
    loaded_weights,
    local_writes,
    mmcv_ops,
    multimodal,
    numpy_aliases,
    object_arrays,
    pose_circles,
    ssd,
    sync_batchnorm,
    xtcocotools,
)

_PATCHED = (
    find_loader,
    numpy_aliases,
    checkpoints,
    loaded_weights,
    external_configs,
    inherited_bases,
    config_layout,
    local_writes,
    checkpoint_hook,
    checkpoint_configs,
    file_handlers,
    object_arrays,
    sync_batchnorm,
    mmcv_ops,
    drn,
    xtcocotools,
    ssd,
    coco_info,
    pose_circles,
    canvas_rgb,
    color_jitter,
    imgaug_bool,
    lighting,
    multimodal,
)


@cache
def patch() -> None:
    """Apply every patch. A second call does nothing."""
    for module in _PATCHED:
        module.patch()
